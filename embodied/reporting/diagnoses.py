"""The section on the world model: what `embodied evaluate --model.path` found, beside its floors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from embodied.reporting import formats
from embodied.reporting.charts import Series, line_chart
from embodied.reporting.run_folder import Result, Run
from embodied.reporting.templating import render


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells; the first column holds names, the others numbers. lead: a sentence above it."""

    title: str
    lead: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def world_model(run: Run, media: int) -> Markup | None:
    """Of each model that was looked into: error against horizon, probes, ranking and surprise."""
    if not run.diagnoses:
        return None
    looks = [
        {"of": _name(diagnosis), "chart": _chart(diagnosis["diagnostics"]), "tables": _tables(diagnosis)}
        for diagnosis in run.diagnoses
    ]
    return render("world_model.html", looks=looks)


def _name(diagnosis: Result) -> str:
    return str((diagnosis.get("checkpoint") or {}).get("path", ""))


def _chart(found: Mapping[str, Any]) -> Markup | None:
    """Error of rollouts, and of copying the present, over environment steps."""
    rows = (found.get("rollout") or {}).get("horizons") or []
    lines = {"world model": "error", "copying the last frame": "copy_error"}
    series = [
        Series(label=label, points=[(row["steps"], row[key]) for row in rows], color=color)
        for color, (label, key) in enumerate(lines.items())
    ]
    if not rows:
        return None
    highest = max(y for one in series for _, y in one.points)
    bounds = (0.0, 1.05 * highest or 1.0)
    return line_chart(series, title="Rollout error", x_label="environment steps", bounds=bounds)


def _tables(diagnosis: Result) -> list[Table]:
    found = diagnosis["diagnostics"]
    return [make(found[name]) for name, make in TABLES.items() if name in found]


def _rollout(result: Mapping[str, Any]) -> Table:
    return Table(
        title="Rollouts",
        lead="Mean squared error of open-loop rollouts on held-out episodes. Skill: what the model takes off "
        "the error of copying, with its 95 % interval over episodes.",
        columns=("steps ahead", "model", "copying", "skill", "interval", "episodes"),
        rows=[
            (
                str(row["steps"]),
                _number(row["error"]),
                _number(row["copy_error"]),
                _number(row["skill"]),
                _interval(row["skill_low"], row["skill_high"]),
                str(row["episodes"]),
            )
            for row in result["horizons"]
        ],
    )


def _probes(result: Mapping[str, Any]) -> Table:
    return Table(
        title="Probes",
        lead="R² of positions read out of the latents on held-out episodes, beside an untrained encoder's. "
        "Unexplained: 1 - R² over the untrained encoder's 1 - R²; smaller is better.",
        columns=("position", "probe", "R²", "untrained", "unexplained"),
        rows=[
            (
                row["landmark"].replace("_", " "),
                row["probe"],
                *(_number(row[key]) for key in ("r2", "floor", "unexplained")),
            )
            for row in result["summary"]
        ],
    )


def _ranking(result: Mapping[str, Any]) -> Table:
    interval = _interval(result["low"], result["high"])
    return Table(
        title="Ranking",
        lead=f"Median Spearman correlation over {result['states']} states between what the model thinks of "
        f"{result['candidates']} proposed chunks and what they return in the simulator (95 % interval "
        f"{interval}), beside predictors that see no picture.",
        columns=("task", "model", *(name.replace("_", " ") for name in result["floors"]), "states"),
        rows=[
            (
                row["task"],
                _number(row["spearman"]),
                *(_number(value) for value in row["floors"].values()),
                str(row["states"]),
            )
            for row in ({**result, "task": "all"}, *result["tasks"])
        ],
    )


def _surprise(result: Mapping[str, Any]) -> Table:
    return Table(
        title="Surprise",
        lead="AUROC of telling looks at which the object was edited from the same looks without the edit: by "
        "the model's prediction error, by the change of the latents, by that of the pictures. Chance is 0.5.",
        columns=("edit", "task", "model", "interval", "latents", "pictures", "looks"),
        rows=[
            (
                row["edit"],
                row["task"],
                _number(row["auroc"]),
                _interval(row["low"], row["high"]),
                _number(row["floors"]["copy"]),
                _number(row["floors"]["pixels"]),
                str(row["looks"]),
            )
            for row in result["edits"]
        ],
    )


def _goals(result: Mapping[str, Any]) -> Table:
    p50 = _number((result.get("decision_ms") or {}).get("p50"))
    return Table(
        title="Planning to goal pictures",
        lead="How often a planner over the world model gets where the expert's last picture was taken, in at "
        f"most twice its steps; success is the environment's. A decision took {p50} ms in the median.",
        columns=("task", "planner", "interval", "random", "goals", "left out"),
        rows=[
            (
                row["task"],
                _percent(row["success_rate"]),
                "-" if row["low"] is None else formats.interval(row["low"], row["high"]),
                _percent(row["floors"]["random"]),
                str(row["goals"]),
                str(row["excluded"]),
            )
            for row in result["tasks"]
        ],
    )


TABLES = {
    "rollout": _rollout,
    "probes": _probes,
    "ranking": _ranking,
    "surprise": _surprise,
    "goals": _goals,
}


def _percent(rate: float | None) -> str:
    return "-" if rate is None else formats.percent(rate)


def _number(value: float | None) -> str:
    return "-" if value is None else formats.number(value)


def _interval(low: float | None, high: float | None) -> str:
    return f"{_number(low)} to {_number(high)}"
