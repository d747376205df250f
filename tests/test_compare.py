"""`embodied compare` on a point that moves on a plane: what it runs, keeps, refuses and says."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embodied import cli, comparison_work
from embodied.compare import compare
from embodied.config import CompareConfig
from embodied.errors import UserError
from embodied.evaluation.row_log import RowLog
from tests.evaluation.conftest import LATENT_VLA

POINT = {"type": "fake_point"}
TRAINED = {"steps": 1, "batch_size": 2, "mixed_precision": "no"}
POLICY = {**LATENT_VLA, "device": "cpu", "chunk_size": 4, "n_action_steps": 4, "action_tokens": 2}
IMAGINES = {"imagination": "latent", "world_model": True, "dynamics_depth": 1, "dynamics_heads": 2}
WORLD = {"num_latents": 2, "dim": 16, "dynamics_depth": 1, "dynamics_heads": 2, "chunk_steps": 4}
DECLARED: dict[str, Any] = {
    "name": "points",
    "data": {
        "east": {"env": POINT, "episodes": 2, "workers": 1},
        "west": {"env": {**POINT, "task": "west"}, "episodes": 0, "random_episodes": 1, "workers": 1},
        "all": {"merge": ["east", "west"]},
    },
    "training": {
        "none": {"data": "east", "policy": POLICY, **TRAINED},
        "latent": {"data": "all", "policy": {**POLICY, **IMAGINES}, "start_from": "world", **TRAINED},
        "world": {"data": "all", "model": {**WORLD, "device": "cpu"}, **TRAINED},
    },
    "arms": {
        "none": {"checkpoint": "none"},
        "imagine": {"checkpoint": "latent", "policy": {"mode": "imagine"}},
        "swapped": {
            "checkpoint": "latent",
            "policy": {"mode": "imagine", "intervention": "other_instruction"},
        },
    },
    "conditions": {"plain": POINT, "short": {**POINT, "episode_length": 3}},
    "training_seeds": [0, 1],
    "episodes": 3,
    "first_environment_seed": 0,
    "comparisons": [["imagine", "none"]],
}


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CompareConfig]:
    """Writes a declaration, changed at the top level, for a comparison in this test's folder."""
    monkeypatch.chdir(tmp_path)

    def declare(*, options: dict[str, Any] | None = None, **changes: Any) -> CompareConfig:
        path = Path("points.json")
        path.write_text(json.dumps({**DECLARED, **changes}))
        settings = {"declaration": path, "output_dir": Path("out"), "num_envs": 1, **(options or {})}
        return CompareConfig(**settings)

    return declare


def keys(path: Path) -> list[tuple]:
    rows = [row for row in RowLog(path).rows if "declaration" not in row]
    return [
        tuple(row[name] for name in ("condition", "arm", "training_seed", "task", "env_seed")) for row in rows
    ]


def rates(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(one["condition"], one["arm"]): one["success_rate"] for one in result["rates"]}


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The expensive steps that are taken from now on, by name."""
    steps: list[str] = []

    def watch(name: str) -> None:
        real = getattr(comparison_work, name)
        monkeypatch.setattr(comparison_work, name, lambda *a, **k: steps.append(name) or real(*a, **k))

    for name in ("complete_collection", "merge_datasets", "train", "run_agent", "run_floor", "run_expert"):
        watch(name)
    return steps


def test_everything_is_done_once_and_in_order(declare: Callable, worked: list[str]) -> None:
    config = declare(options={"results": Path("results")})
    result = compare(config)
    assert worked[:3] == ["complete_collection", "complete_collection", "merge_datasets"]
    assert worked.count("train") == 6  # one checkpoint of two arms is trained once per seed
    settings = json.loads(Path("out/training/latent-1/train_config.json").read_text())
    assert settings["policy"]["world_model_path"] == "out/training/world-1"
    found = keys(Path("results/points.jsonl"))
    assert len(found) == len(set(found)) == 2 * 3 * (3 + 3 * 2)
    assert (result["done"], result["units"]) == (3 + 2 * 3 + 2 * (3 + 2 * 3), 27)
    by_arm = rates(result)
    assert by_arm["plain", "expert"] == 1  # at step 10 of 12
    assert by_arm["short", "expert"] == 0
    assert by_arm["plain", "noop"] == 0
    assert {one["condition"] for one in result["comparisons"]} == {"plain", "short"}
    imagine = next(one for one in result["arms"] if one["arm"] == "imagine")
    assert imagine["latency_ms"]["p50"] > 0
    # What is written is what is returned, with where it comes from, and where the report finds it.
    written = json.loads(Path("results/points.json").read_text())
    assert written == json.loads(Path("out/points.json").read_text()) == json.loads(json.dumps(result))
    assert written["command"] == "embodied compare points.json --output_dir=out --results=results"
    assert written["seeds"] == [0, 1]
    assert "imagine" in Path("out/report.html").read_text()
    # Nothing is done twice.
    worked.clear()
    again = compare(config)
    assert worked == []
    assert again["comparisons"] == result["comparisons"]
    assert keys(Path("results/points.jsonl")) == found


@pytest.fixture
def small(declare: Callable) -> Callable[..., CompareConfig]:
    """One arm that needs a training of one step."""
    parts = {
        "data": {"east": DECLARED["data"]["east"]},
        "training": {"none": DECLARED["training"]["none"]},
        "arms": {"none": {"checkpoint": "none"}},
        "conditions": {"plain": POINT},
        "comparisons": [],
    }
    return lambda **changes: declare(**{**parts, **changes})


def test_rows_that_are_there_are_not_run_again(small: Callable, worked: list[str]) -> None:
    first = compare(small(training_seeds=[0]))
    path = Path("out/points.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:40])
    worked.clear()
    again = compare(small(training_seeds=[0]))
    assert worked == ["run_agent"]
    assert sorted(keys(path), key=str) == sorted(set(keys(path)), key=str)
    assert rates(again) == rates(first)


def test_whoever_remembers_for_a_neighbour_is_never_alone(small: Callable) -> None:
    """The batches are those of the whole cell, so that rows that were lost come back as they were."""
    remembers = {**POLICY, "memory_tokens": 2, "memory_window": 4}
    config = small(
        training={"bank": {**DECLARED["training"]["none"], "policy": remembers}},
        arms={"swapped": {"checkpoint": "bank", "policy": {"memory": "swapped"}}},
        training_seeds=[0],
        episodes=4,
        options={"num_envs": 2},
    )
    result = compare(config)
    (arm,) = (one for one in result["arms"] if one["arm"] == "swapped")
    assert (arm["episodes"], arm["latency_ms"]["p50"]) == (4, None)
    path = Path("out/points.jsonl")
    rows = RowLog(path).rows
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows[:-1]))
    compare(config)
    assert [{**row, "decision_ms": []} for row in RowLog(path).rows] == [
        {**row, "decision_ms": []} for row in rows
    ]


def test_more_seeds_episodes_and_arms_are_added_to_what_is_there(small: Callable, worked: list[str]) -> None:
    compare(small(training_seeds=[0], episodes=2))
    worked.clear()
    arms = {"none": {"checkpoint": "none"}, "hot": {"checkpoint": "none", "policy": {"temperature": 2.0}}}
    result = compare(small(training_seeds=[0, 1], episodes=3, arms=arms, comparisons=[["hot", "none"]]))
    assert worked.count("train") == 1
    assert worked.count("run_expert") == 1
    (difference,) = result["comparisons"]
    assert (difference["episodes"], difference["training_seeds"]) == (3, [0, 1])


def test_a_stage_does_no_more_than_its_own_and_says_what_it_lacks(small: Callable, worked: list[str]) -> None:
    with pytest.raises(
        UserError, match="training none, seed 0 needs data east: expected all, or --stage=data"
    ):
        compare(small(options={"stage": "train"}))
    compare(small(options={"stage": "data"}))
    assert worked == ["complete_collection"]
    with pytest.raises(
        UserError, match=r"training seed 0 needs training none, seed 0: .* --stage=train first"
    ):
        compare(small(options={"stage": "evaluate"}))
    compare(small(options={"stage": "train"}, training_seeds=[0]))
    result = compare(small(options={"stage": "evaluate"}, training_seeds=[0]))
    assert result["done"] == result["units"]


def test_time_that_is_up_ends_between_two_units_and_says_how_to_go_on(
    small: Callable, worked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result = compare(small(options={"max_minutes": 0.0}))
    assert worked == []
    assert result["done"] == 0
    said = capsys.readouterr().out
    assert "go on with: embodied compare points.json --output_dir=out" in said


def test_an_interruption_says_how_to_go_on(small: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison_work, "complete_collection", interrupted)
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped in data east; .* go on with: embodied compare points"
    ):
        compare(small())


def test_arms_are_compared_on_the_seeds_that_all_have(
    small: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second training seed: the first is compared."""
    arms = {name: {"checkpoint": "none"} for name in ("none", "same")}
    config = small(arms=arms, comparisons=[["same", "none"]])
    real, trained = comparison_work.train, []

    def train(config: Any) -> dict[str, Any]:
        trained.append(config.seed)
        if config.seed == 1:
            raise KeyboardInterrupt
        return real(config)

    monkeypatch.setattr(comparison_work, "train", train)
    with pytest.raises(KeyboardInterrupt):
        compare(config)
    result = compare(small(arms=arms, comparisons=[["same", "none"]], options={"max_minutes": 0.0}))
    (difference,) = result["comparisons"]
    assert (difference["difference"], difference["low"], difference["high"]) == (0, 0, 0)
    assert difference["training_seeds"] == [0]


def test_minutes_become_the_steps_that_fit_for_every_seed(
    small: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured once, before the first seed; the steps of the measurement are thrown away."""
    real, lengths = comparison_work.train, []

    def train(config: Any) -> dict[str, Any]:
        lengths.append(config.steps)
        return real(config)

    monkeypatch.setattr(comparison_work, "train", train)
    entry = {key: value for key, value in DECLARED["training"]["none"].items() if key != "steps"}
    config = small(training={"none": {**entry, "minutes": 0.001}})
    result = compare(config)
    assert result["done"] == result["units"]
    noted = json.loads(Path("out/training/none.steps.json").read_text())
    assert noted["steps"] == max(1, round(0.06 * noted["steps_per_s"]))
    assert lengths == [noted["steps"]] * 2
    assert not Path("out/training/none.steps-probe").exists()


@pytest.mark.parametrize(
    ("part", "name", "change"),
    [
        ("data", "east", {"episodes": 9}),
        ("training", "none", {"steps": 9}),
        ("arms", "none", {"policy": {"temperature": 2.0}}),
        ("conditions", "plain", {"episode_length": 9}),
    ],
)
@pytest.mark.parametrize("lost", ["out/declaration.json", "out/points.jsonl"])
def test_a_name_cannot_come_to_mean_something_else(
    part: str, name: str, change: dict, lost: str, small: Callable
) -> None:
    config = small(options={"max_minutes": 0.0})
    compare(config)
    Path(lost).unlink()
    declared = json.loads(config.declaration.read_text())
    changed = copy.deepcopy(declared[part])
    changed[name] |= change
    with pytest.raises(UserError, match=f"{part}.{name}: differs from that in out/"):
        compare(small(**{part: changed}, options={"max_minutes": 0.0}))


def test_a_data_set_that_is_not_there_is_named(small: Callable) -> None:
    with pytest.raises(UserError, match=r"--dataset\.root=nowhere"):
        compare(small(data={"east": {"root": "nowhere"}}))


def test_data_sets_that_do_not_fit_are_not_merged(small: Callable) -> None:
    env = {"type": "embodied_pusht", "width": 32, "height": 32, "episode_length": 3}
    other = {"env": env, "episodes": 0, "random_episodes": 1, "workers": 1}
    data = {"east": DECLARED["data"]["east"], "other": other, "all": {"merge": ["east", "other"]}}
    with pytest.raises(
        UserError, match="out/data/east, out/data/other: expected data sets of equal features"
    ):
        compare(small(data=data))
    assert not Path("out/data/all").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["nowhere.json"], "--declaration=nowhere.json: expected a JSON file that can be read"),
        (["points.json", "--stage=test"], "--stage=test: expected all or one of data, train, evaluate"),
        (["points.json", "--max_minutes=-1"], "--max_minutes=-1.0: expected at least 0"),
        (["points.json"], "points.json: episodes=0: expected at least 1"),
    ],
)
def test_on_the_command_line_each_mistake_is_one_line(
    flags: list[str], line: str, small: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    small(episodes=0)
    assert cli.main(["compare", *flags, "--output_dir=out"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not Path("out").exists()
