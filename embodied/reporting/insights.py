"""What world models know, in a table: a line per figure that diagnostics gave, its floor beside it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from embodied.reporting.formats import interval, percent

Result = Mapping[str, Any]
HEADER = ["asked of a world model", "measured", "beside it"]


def insight_lines(results: Sequence[Result]) -> list[list[str]]:
    """Results of `embodied evaluate --model.path`, one below the other, as a table with its header."""
    lines = [
        line
        for result in results
        for name, found in result["diagnostics"].items()
        for line in LINES[name](found, result)
    ]
    return [HEADER, *lines]


def _rollout(found: Result, of: Result) -> Iterator[list[str]]:
    horizons = found["horizons"]
    shares = [1 - row["skill"] for row in horizons]
    yield [
        f"forecast of {horizons[0]['steps']} to {horizons[-1]['steps']} steps without a look",
        f"{percent(min(shares))} to {percent(max(shares))} of the error of a world that stands still",
        "100 %",
    ]


def _probes(found: Result, of: Result) -> Iterator[list[str]]:
    for row in found["summary"]:
        if row["probe"] == "ridge":
            yield [
                f"R² of a linear probe: {row['landmark'].replace('_', ' ')}",
                f"{row['r2']:.2f}",
                f"untrained encoder {row['floor']:.2f}",
            ]


def _ranking(found: Result, of: Result) -> Iterator[list[str]]:
    yield [
        f"rank correlation of foreseen and true outcome, {found['candidates']} chunks",
        f"{found['spearman']:.2f} ({found['low']:.2f} to {found['high']:.2f})",
        f"from chunk and state, no picture {found['floors']['chunk_and_state_mlp']:.2f}",
    ]


def _surprise(found: Result, of: Result) -> Iterator[list[str]]:
    for row in found["edits"]:
        if row["task"] == "all":
            yield [
                f"AUROC of noticing that the object was {row['edit']}",
                f"{row['auroc']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
                f"change of the pictures {row['floors']['pixels']:.2f}",
            ]


def _goals(found: Result, of: Result) -> Iterator[list[str]]:
    milliseconds = found["decision_ms"]["p50"]
    for row in found["tasks"]:
        yield [
            f"gets to a goal picture in twice the expert's steps: {row['task']}, {of['env']['width']} px, "
            f"{_planning(of['command'])}",
            f"{percent(row['success_rate'])} ({interval(row['low'], row['high'])}), "
            f"{milliseconds:.0f} ms per decision",
            f"random actions {percent(row['floors']['random'])}",
        ]


def _planning(command: str) -> str:
    """How was planned, in words, from the flag `--planning` of a command."""
    flag = re.search(r"--planning=(\S+)", command)
    chosen = dict(part.split("=") for part in flag[1].split(",")) if flag else {}
    how = "by search"
    if chosen.get("begin") == "inverse":
        how = "by inverse dynamics" + (" alone" if chosen.get("iterations") == "1" else "")
    steps = chosen.get("n_action_steps")
    return how if steps is None else f"{how}, a look every {steps} steps"


LINES: dict[str, Callable[[Result, Result], Iterator[list[str]]]] = {
    "rollout": _rollout,
    "probes": _probes,
    "ranking": _ranking,
    "surprise": _surprise,
    "goals": _goals,
}
