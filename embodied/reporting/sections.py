"""The page, section by section: each a pure function of what a run left, in the order of SECTIONS.

A section returns its HTML, or None where the run has nothing for it; `missing` then says so in one line, if
it is not empty. A new section is a function, a template and a line of SECTIONS.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from markupsafe import Markup

from embodied.evaluation.summary import pooled_interval
from embodied.reporting import formats
from embodied.reporting.abilities import abilities
from embodied.reporting.chaos import chaos
from embodied.reporting.comparisons import comparison
from embodied.reporting.curves import training
from embodied.reporting.diagnoses import world_model
from embodied.reporting.imagined import imagined
from embodied.reporting.origins import provenance, run_date
from embodied.reporting.rollouts import rollouts
from embodied.reporting.run_folder import Evaluation, Result, Run, labels
from embodied.reporting.speed import speed
from embodied.reporting.templating import render

MOST_HEADLINES = 6


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: anchor and heading, function from (run, bytes for films) to HTML, line if None."""

    name: str
    title: str
    render: Callable[[Run, int], Markup | None]
    missing: str = ""


# --- what several sections say ------------------------------------------------------------------------


def headline(evaluation: Evaluation) -> Result:
    """Success over all tasks: `rate` (mean over tasks), `low` and `high` (or None), counts and floors."""
    result = evaluation.result
    low, high = pooled_interval(result["tasks"])
    return {
        "rate": result["success_rate"],
        "low": low,
        "high": high,
        "successes": result["successes"],
        "episodes": result["episodes"],
        "floors": {name: floor["success_rate"] for name, floor in evaluation.floors.items()},
    }


def header(run: Run) -> Markup:
    """Name and date of the run, its success in large figures, and the facts one asks for next."""
    evaluations = run.evaluations
    named = list(zip(labels(evaluations), evaluations, strict=True))[:MOST_HEADLINES]
    return render(
        "header.html",
        name=run.root.resolve().name,
        date=run_date(run),
        summary=_summary(run),
        headlines=[{"label": label, **headline(evaluation)} for label, evaluation in named],
        more=len(evaluations) - len(named),
        facts=_facts(run),
    )


def _summary(run: Run) -> list[str]:
    """What was run, in a few words each."""
    parts = list(dict.fromkeys(str(e.result["policy"]) for e in run.evaluations if e.result.get("policy")))
    parts = parts or list(
        dict.fromkeys(
            str(trained["type"])
            for t in run.trainings
            if (trained := t.settings.get("policy") or t.settings.get("model") or {})
        )
    )
    tasks = {task["task"] for evaluation in run.evaluations for task in evaluation.result["tasks"]}
    parts += [f"{len(tasks)} tasks" if len(tasks) > 1 else next(iter(tasks))] if tasks else []
    parts += [f"{len(run.trainings)} training runs"] if len(run.trainings) > 1 else []
    return parts


def _facts(run: Run) -> list[tuple[str, str]]:
    """(name, figure) pairs beside the headline."""
    facts: list[tuple[str, str]] = []
    for one in run.trainings if len(run.trainings) == 1 else ():
        steps = one.result.get("steps") or (one.points[-1]["step"] if one.points else None)
        facts += [("training steps", f"{steps:,.0f}")] if steps else []
        if one.result.get("seconds"):
            facts.append(("training time", formats.duration(one.result["seconds"])))
        if one.result.get("parameters"):
            facts.append(("parameters", formats.parameters(one.result["parameters"])))
    for collected in run.collections if len(run.collections) == 1 else ():
        facts.append(("demonstrations", f"{collected['episodes']:,}"))
    for evaluation in run.evaluations if len(run.evaluations) == 1 else ():
        p50 = (evaluation.result.get("latency_ms") or {}).get("p50")
        facts += [("per decision (median)", f"{formats.number(p50)} ms")] if p50 else []
    return facts


# --- success ------------------------------------------------------------------------------------------


def success(run: Run, media: int) -> Markup | None:
    """Success per task: a bar with its 95 % interval for every evaluation, and the floors."""
    if not run.evaluations:
        return None
    tasks: dict[str, Result] = {}
    for index, evaluation in enumerate(run.evaluations):
        for row in evaluation.result["tasks"]:
            blank = {"task": row["task"], "instructions": {}, "bars": [], "floors": {}}
            entry = tasks.setdefault(row["task"], blank)
            entry["bars"].append({"index": index, **row})
            entry["floors"] |= _task_floors(evaluation, row["task"])
            entry["instructions"] |= dict.fromkeys(_instructions(evaluation, row))
    names = labels(run.evaluations)
    floors = list(dict.fromkeys(name for entry in tasks.values() for name in entry["floors"]))
    return render("success.html", tasks=list(tasks.values()), names=names, floors=floors)


def _task_floors(evaluation: Evaluation, task: str) -> dict[str, float]:
    return {
        name: row["success_rate"]
        for name, floor in evaluation.floors.items()
        for row in floor["tasks"]
        if row["task"] == task
    }


def _instructions(evaluation: Evaluation, task: Result) -> list[str]:
    """What a task's episodes were told; the result, which names only the first one's, where rows lack."""
    told = [row["instruction"] for row in evaluation.rows if row["task"] == task["task"]]
    return told or [task["instruction"]]


# --- tables -------------------------------------------------------------------------------------------


def latency(run: Run, media: int) -> Markup | None:
    """How long a decision takes, median and 95th percentile: alone, and in the evaluation's batches."""
    groups = []
    for name, evaluation in zip(labels(run.evaluations), run.evaluations, strict=True):
        rows = [("one environment alone", evaluation.result.get("latency_ms"))]
        rows += [(task["task"], task.get("latency_ms")) for task in evaluation.result["tasks"]]
        timed = [(what, times) for what, times in rows if times and times.get("p50") is not None]
        groups += [(name, timed)] if timed else []
    if not groups:
        return None
    longest = max(times["p95"] for _, rows in groups for _, times in rows)
    return render("latency.html", groups=groups, longest=longest)


def episodes(run: Run, media: int) -> Markup | None:
    """Every episode: task, environment's seed, outcome, steps, and what the floors reached on that seed."""
    tables = []
    for name, evaluation in zip(labels(run.evaluations), run.evaluations, strict=True):
        floors = {
            floor: {(row["task"], row["env_seed"]): row["success"] for row in rows}
            for floor, rows in evaluation.floor_rows.items()
        }
        lines = [
            (row, [outcomes.get((row["task"], row["env_seed"])) for outcomes in floors.values()])
            for row in evaluation.rows
        ]
        tables += [(name, list(floors), lines)] if lines else []
    return render("episodes.html", tables=tables) if tables else None


def data(run: Run, media: int) -> Markup | None:
    """The demonstrations that were collected, per task and behaviour."""
    if not run.collections:
        return None
    collections = []
    for collected in run.collections:
        rows = [
            (task, behaviour, tally)
            for task, described in collected["tasks"].items()
            for behaviour, tally in described.items()
            if isinstance(tally, dict) and {"episodes", "successes", "frames"} <= tally.keys()
        ]
        has_attempts = any(
            tally.get("attempts", tally["episodes"]) != tally["episodes"] for _, _, tally in rows
        )
        collections.append((collected, rows, has_attempts))
    return render("data.html", collections=collections)


def settings(run: Run, media: int) -> Markup | None:
    """Every setting, folded away."""
    return render("settings.html", groups=run.settings) if run.settings else None


SECTIONS = (
    Section(name="comparison", title="Comparison", render=comparison),
    Section(name="abilities", title="Ability profile", render=abilities),
    Section(name="success", title="Success by task", render=success, missing="No evaluation."),
    Section(
        name="rollouts",
        title="Rollouts",
        render=rollouts,
        missing="No films: `embodied evaluate --videos=N --output_dir=DIR` keeps N per task.",
    ),
    Section(name="imagined", title="Imagination and foresight", render=imagined),
    Section(name="training", title="Training", render=training, missing="No training log."),
    Section(name="world-model", title="World model", render=world_model),
    Section(name="chaos", title="Faults in mid-episode", render=chaos),
    Section(name="latency", title="Decision time", render=latency, missing="No decision times."),
    Section(name="speed", title="Decision time and size", render=speed),
    Section(name="episodes", title="Episodes", render=episodes, missing="No episode rows."),
    Section(name="data", title="Demonstrations", render=data),
    Section(name="provenance", title="Provenance", render=provenance),
    Section(name="settings", title="Settings", render=settings, missing="No settings."),
)


def missing_lines(found: Iterable[tuple[Section, Markup | None]]) -> list[str]:
    """What the page does not show, a line each."""
    return [section.missing for section, html in found if html is None and section.missing]
