"""Diagnostics as text: a line per number, its floor beside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def format_diagnostics(found: Mapping[str, Any]) -> str:
    """One table per diagnostic that was made."""
    return "\n\n".join(TABLES[name](result) for name, result in found.items())


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None or value != value else format(value, form)


def _rollout(result: Mapping[str, Any]) -> str:
    lines = [["rollout", "error", "copy", "skill", "95 % interval", "episodes"]]
    for row in result["horizons"]:
        interval = f"{_number(row['skill_low'])} to {_number(row['skill_high'])}"
        errors = [_number(row[key], ".3g") for key in ("error", "copy_error")]
        lines.append(
            [f"{row['steps']} steps", *errors, _number(row["skill"]), interval, str(row["episodes"])]
        )
    return _table(lines)


def _probes(result: Mapping[str, Any]) -> str:
    lines = [["probe", "", "R²", "untrained", "unexplained, of the floor's"]]
    for row in result["summary"]:
        scores = [_number(row[key]) for key in ("r2", "floor", "unexplained")]
        lines.append([row["landmark"], row["probe"], *scores])
    return _table(lines)


def _ranking(result: Mapping[str, Any]) -> str:
    floors = result["floors"]
    lines = [["ranking", "Spearman", *floors, "states"]]
    rows = [{"task": "median", **result}, *result["tasks"]]
    for row in rows:
        beside = [_number(value) for value in row["floors"].values()]
        lines.append([row["task"], _number(row["spearman"]), *beside, str(row["states"])])
    return _table(lines)


def _surprise(result: Mapping[str, Any]) -> str:
    lines = [["surprise", "task", "AUROC", "copy", "pixels", "95 % interval", "looks"]]
    for row in result["edits"]:
        beside = [_number(value) for value in row["floors"].values()]
        interval = f"{_number(row['low'])} to {_number(row['high'])}"
        lines.append([row["edit"], row["task"], _number(row["auroc"]), *beside, interval, str(row["looks"])])
    return _table(lines)


def _goals(result: Mapping[str, Any]) -> str:
    lines = [["goals", "planner", "95 % interval", "random", "goals", "left out"]]
    for row in result["tasks"]:
        rates = [_number(rate, ".0%") for rate in (row["success_rate"], row["floors"]["random"])]
        interval = f"{_number(row['low'], '.0%')} to {_number(row['high'], '.0%')}"
        lines.append([row["task"], rates[0], interval, rates[1], str(row["goals"]), str(row["excluded"])])
    return _table(lines)


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "rollout": _rollout,
    "probes": _probes,
    "ranking": _ranking,
    "surprise": _surprise,
    "goals": _goals,
}
