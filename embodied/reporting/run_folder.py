"""What a run left on disk, as plain values: results, episodes, curves, films and settings.

Results are known by what is in them, so that a folder may be a training run, the output_dir of an evaluation,
a quickstart, several of these side by side, or JSON files alone. A file that cannot be read becomes a line in
`Run.notes`: a report of what is there is worth more than none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied.chaos.summary import ROWS_FILE
from embodied.errors import UserError
from embodied.evaluation.floors import FLOORS
from embodied.evaluation.summary import Row, summarise
from embodied.manifest import MANIFEST
from embodied.training.checkpoint import CHECKPOINTS, last_checkpoint

Result = dict[str, Any]
Point = dict[str, float | None]

DEPTH = 2
NOT_RUNS = (CHECKPOINTS, "tensorboard", "wandb", "videos")
METRICS_FILE, SETTINGS_FILE, QUICKSTART_FILE = "metrics.jsonl", "train_config.json", "quickstart.json"
TASK_KEYS = ("task", "instruction", "successes", "episodes", "success_rate", "wilson_low", "wilson_high")
GROWING = ("growth", "plan")
"""Benches that time one thing as another grows."""

ROW_KEYS = ("arm", "task", "instruction", "env_seed", "success", "steps", "decision_ms")


@dataclass(frozen=True, kw_only=True)
class Film:
    """A recorded episode: its row, its film (mp4) and its filmstrip (png), one of which may be missing."""

    row: Row
    film: Path | None
    strip: Path | None


@dataclass(kw_only=True)
class Evaluation:
    """One agent on one set of episodes.

    result: what `embodied.evaluation.evaluate` returns, or what its episode rows tell of that; rows: those
    of the agent; floor_rows: per floor.
    """

    label: str
    result: Result
    rows: list[Row] = field(default_factory=list)
    floor_rows: dict[str, list[Row]] = field(default_factory=dict)
    films: list[Film] = field(default_factory=list)

    @property
    def floors(self) -> dict[str, Result]:
        """The result's floors in the order of FLOORS, whatever the order in its file."""
        found = self.result.get("floors") or {}
        return {name: found[name] for name in [*FLOORS, *found] if name in found}


@dataclass(kw_only=True)
class Training:
    """One training run: logged points, settings, what `train` returned, and the last checkpoint's files.

    checkpoint: `step` and `sha256`, empty before the first one; card: the checkpoint's evaluation.
    """

    label: str
    points: list[Point] = field(default_factory=list)
    settings: Result = field(default_factory=dict)
    result: Result = field(default_factory=dict)
    checkpoint: Result = field(default_factory=dict)
    provenance: Result = field(default_factory=dict)
    card: Result = field(default_factory=dict)


@dataclass(kw_only=True)
class Run:
    """Everything a report shows.

    collections, comparisons: what `embodied collect` and `embodied compare` returned; imagined: what
    `embodied imagine` returned, and its folder; diagnoses: what `embodied evaluate --model.path` returned;
    chaos: what `embodied chaos` returned, and its rows; benches: what `embodied bench` returned, of GROWING;
    settings: configurations by where they belong; notes: what could not be read, and why; written: when the
    newest of its files was written, in seconds since 1970.
    """

    root: Path
    evaluations: list[Evaluation] = field(default_factory=list)
    trainings: list[Training] = field(default_factory=list)
    collections: list[Result] = field(default_factory=list)
    comparisons: list[Result] = field(default_factory=list)
    imagined: list[tuple[Result, Path]] = field(default_factory=list)
    diagnoses: list[Result] = field(default_factory=list)
    chaos: list[tuple[Result, list[Result]]] = field(default_factory=list)
    benches: list[Result] = field(default_factory=list)
    settings: dict[str, Result] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    written: float = 0.0


def read_run(root: Path) -> Run:
    """Read a run's folder.

    Raises:
        UserError: `root` is no folder, or holds nothing that a report could show.
    """
    if not root.is_dir():
        raise UserError(f"--run={root}: expected the folder of a training run, an evaluation or a quickstart")
    run = _Reader(root).read()
    found = (run.evaluations, run.trainings, run.collections, run.comparisons, run.imagined, run.diagnoses)
    if not any((*found, run.chaos, run.benches)):
        raise UserError(
            f"--run={root}: holds no result, training log or episodes: expected the output folder of "
            "`embodied train`, `evaluate` or `quickstart`" + "".join(f"; {note}" for note in run.notes[:1])
        )
    return run


def labels(evaluations: Sequence[Evaluation]) -> list[str]:
    """What to call evaluations: by training seed where that tells them apart, else by where they lie."""
    checkpoints = [evaluation.result.get("checkpoint") or {} for evaluation in evaluations]
    seeds = [checkpoint.get("training_seed") for checkpoint in checkpoints]
    if None not in seeds and len(set(seeds)) == len(seeds):
        return [f"training seed {seed}" for seed in seeds]
    return [evaluation.label for evaluation in evaluations]


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders in it that may hold a run; data sets and checkpoints are none."""
    if (root / "meta" / "info.json").is_file():
        return
    yield root
    if depth:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if folder.name not in NOT_RUNS and not folder.name.startswith("."):
                yield from _folders(folder, depth - 1)


class _Reader:
    """Gathers what the folders hold; the same evaluation found twice counts once."""

    def __init__(self, root: Path) -> None:
        self._run = Run(root=root)
        self._trained: list[tuple[Path, Result]] = []
        """What `train` returned, and the folder in which that was found."""

    def read(self) -> Run:
        run = self._run
        for folder in _folders(run.root, DEPTH):
            self._read_folder(folder)
        run.trainings += [Training(label=run.root.name, result=result) for _, result in self._trained]
        for training in [] if run.evaluations else run.trainings:
            if is_evaluation(training.card):
                label = f"step {training.card.get('step')}"
                run.evaluations.append(Evaluation(label=label, result=training.card))
        for evaluation in run.evaluations:
            if evaluation.result.get("env"):
                run.settings.setdefault("environment", evaluation.result["env"])
        return run

    def _read_folder(self, folder: Path) -> None:
        results = {path: self._json(path) for path in sorted(folder.glob("*.json"))}
        self._run.benches += [one for one in results.values() if one.get("benchmark") in GROWING]
        for path, result in results.items():
            for part in (result, result.get("collect"), result.get("train")):
                self._sort_in(part, self._label(path), folder)
        for path in sorted(folder.glob("*.jsonl")):
            if path.name != METRICS_FILE:
                self._read_episodes(path)
        if (folder / METRICS_FILE).is_file() or (folder / SETTINGS_FILE).is_file():
            self._read_training(folder, results.get(folder / SETTINGS_FILE, {}))
        if results.get(folder / QUICKSTART_FILE):
            self._run.settings[self._label(folder / QUICKSTART_FILE)] = results[folder / QUICKSTART_FILE]

    def _sort_in(self, part: Any, label: str, folder: Path) -> None:
        if is_evaluation(part):
            self._add(Evaluation(label=label, result=part))
        elif _has(part, "name", "rates", "comparisons", "training_seeds"):
            self._run.comparisons += [part] if part["rates"] else []
        elif _has(part, "samples_per_s", "checkpoint", "steps", "output_dir"):
            if part not in [result for _, result in self._trained]:
                self._trained.append((folder, part))
        elif _has(part, "imagined", "decoder", "mode"):
            # With --json the same lies in two files; pictures lie beside one of them.
            if all((folder / row["film"]).is_file() for row in part["imagined"]):
                self._run.imagined.append((part, folder))
        elif _has(part, "diagnostics", "checkpoint"):
            self._add_diagnosis(part)
        elif _has(part, "faults", "bars", "repetitions"):
            self._add_chaos(part, folder / ROWS_FILE)
        elif _has(part, "fingerprint", "frames", "tasks") and part not in self._run.collections:
            self._run.collections.append(part)

    # --- files ------------------------------------------------------------------------------------

    def _label(self, path: Path) -> str:
        """The folder, as seen from the run's own; the file's name for those right inside it."""
        inside = path.relative_to(self._run.root)
        return inside.stem if inside.parent == Path() else inside.parent.as_posix()

    def _text(self, path: Path) -> str:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            self._note(path, error)
            return ""
        self._run.written = max(self._run.written, path.stat().st_mtime)
        return text

    def _json(self, path: Path) -> Result:
        """The object in a JSON file; {} and a note if there is none."""
        text = self._text(path)
        try:
            value = json.loads(text) if text else {}
        except ValueError as error:
            self._note(path, error)
            return {}
        return value if isinstance(value, dict) else {}

    def _lines(self, path: Path) -> list[Result]:
        """The objects in a file of JSON lines, up to the first that is damaged."""
        rows: list[Result] = []
        for number, line in enumerate(self._text(path).splitlines(), start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                self._note(path, error, f" from line {number} on")
                break
            rows += [row] if isinstance(row, dict) else []
        return rows

    def _note(self, path: Path, error: Exception, where: str = "") -> None:
        self._run.notes.append(f"{path.relative_to(self._run.root)} cannot be read{where}: {error}")

    # --- evaluations ------------------------------------------------------------------------------

    def _add(self, found: Evaluation) -> Evaluation:
        """Keep a new evaluation; of one that is known already, keep the fuller result."""
        for known in self._run.evaluations:
            if _is_same(known.result, found.result):
                known.result = found.result | known.result
                return known
        self._run.evaluations.append(found)
        return found

    def _add_diagnosis(self, found: Result) -> None:
        if found["diagnostics"] not in [known["diagnostics"] for known in self._run.diagnoses]:
            self._run.diagnoses.append(found)

    def _add_chaos(self, found: Result, path: Path) -> None:
        if found["faults"] not in [known["faults"] for known, _ in self._run.chaos]:
            rows = self._lines(path) if path.is_file() else []
            faulty = [row for row in rows if _has(row, "fault", "repetition", "states")]
            self._run.chaos.append((found, faulty))

    def _read_episodes(self, path: Path) -> None:
        # Those of a comparison, which name their condition, are summed up in its result.
        rows = [row for row in self._lines(path) if _has(row, *ROW_KEYS) and "condition" not in row]
        arms: dict[str, list[Row]] = {}
        for row in rows:
            arms.setdefault(row["arm"], []).append(row)
        floors = {arm: arms.pop(arm) for arm in FLOORS if arm in arms}
        for arm, own in arms.items():
            label = self._label(path) if len(arms) == 1 else arm
            evaluation = self._add(Evaluation(label=label, result=_result_of(own, floors)))
            evaluation.rows, evaluation.floor_rows = own, floors
            evaluation.films = _films(own, path.parent / "videos")

    # --- training ---------------------------------------------------------------------------------

    def _read_training(self, folder: Path, settings: Result) -> None:
        run = self._run
        label = folder.relative_to(run.root).as_posix() if folder != run.root else folder.resolve().name
        log, checkpoint = folder / METRICS_FILE, last_checkpoint(folder)
        training = Training(label=label, settings=settings, result=self._result_beside(folder))
        training.points = [row for row in self._lines(log) if "step" in row] if log.is_file() else []
        if checkpoint is not None:
            manifest = self._json(checkpoint / MANIFEST)
            training.checkpoint = {"step": checkpoint.name.lstrip("0"), "sha256": manifest.get("sha256")}
            training.provenance = self._json(checkpoint / "provenance.json")
            training.card = self._json(checkpoint / "evaluation_card.json")
        run.trainings.append(training)
        if settings:
            run.settings[label] = settings

    def _result_beside(self, folder: Path) -> Result:
        """What `train` returned for this folder, in it or (a quickstart's) beside it."""
        for place, result in self._trained:
            is_beside = place == folder.parent and Path(result["output_dir"]).name == folder.name
            if place == folder or is_beside:
                self._trained.remove((place, result))
                return result
        return {}


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


def is_evaluation(value: Any) -> bool:
    """Whether `value` is what `embodied.evaluation.summary.summarise` returns, with or without more."""
    tasks = value.get("tasks") if _has(value, "tasks", "success_rate", "successes", "episodes") else None
    return isinstance(tasks, list) and bool(tasks) and all(_has(task, *TASK_KEYS) for task in tasks)


def _is_same(one: Result, other: Result) -> bool:
    """Whether two results agree on every episode, and on the checkpoint if both name it."""
    named = [result.get("checkpoint") for result in (one, other)]
    checkpoints = [checkpoint.get("sha256") for checkpoint in named if isinstance(checkpoint, dict)]
    outcomes = [
        [(task["task"], task["successes"], task.get("episode_lengths")) for task in result["tasks"]]
        for result in (one, other)
    ]
    return outcomes[0] == outcomes[1] and len(set(checkpoints)) < 2


def _result_of(rows: Sequence[Row], floors: Mapping[str, Sequence[Row]]) -> Result:
    """What episode rows alone tell of an evaluation."""
    summary = summarise(rows)
    return {**summary, "floors": {name: summarise(floor) for name, floor in floors.items()}}


def _films(rows: Sequence[Row], folder: Path) -> list[Film]:
    """The films of those rows that were recorded, as `embodied.evaluation.videos` names them."""
    films = []
    for row in rows:
        outcome = "success" if row["success"] else "failure"
        film = folder / f"{row['task']}_{row['env_seed']}_{outcome}.mp4"
        found = [path if path.is_file() else None for path in (film, film.with_suffix(".png"))]
        if any(found):
            films.append(Film(row=row, film=found[0], strip=found[1]))
    return films
