"""What many repetitions of a fault come to: worst and median of every measure, beside the bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROWS_FILE, RESULT_FILE = "chaos.jsonl", "chaos.json"
"""In the output folder: a row per repetition, and what they come to."""

MEASURES = ("hold_ms", "hold_ticks", "resume_s", "robot_hold_ms")
MOST_PROBLEMS = 5


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per fault `repetitions`, `kept` (those without a problem), `interrupted`, `commands`, `problems` (the
    first few, with the repetition's number) and of every measure `median` and `worst`, None if there is none.
    """
    names = dict.fromkeys(row["fault"] for row in rows)
    return {name: _summary([row for row in rows if row["fault"] == name]) for name in names}


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    problems = [f"{row['repetition']}: {problem}" for row in rows for problem in row["problems"]]
    return {
        "repetitions": len(rows),
        "kept": sum(not row["problems"] for row in rows),
        "interrupted": sum(bool(row["interrupted"]) for row in rows),
        "commands": sum(row["commands"] for row in rows),
        "problems": problems[:MOST_PROBLEMS],
        **{name: _spread([row[name] for row in rows if row[name] is not None]) for name in MEASURES},
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"median": float(np.median(values)), "worst": float(max(values))} if values else None


def table(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Cells, the header first: per fault median and worst of each measure, and the verdict."""
    header = ["fault", "kept", "holds after", "ticks", "runs again after", "robot holds after"]
    lines = [[*header, "interrupted", "commands"]]
    for name, one in summary.items():
        lines.append(
            [
                name,
                f"{one['kept']} of {one['repetitions']}",
                _cell(one["hold_ms"], " ms", 0),
                _cell(one["hold_ticks"], "", 0),
                _cell(one["resume_s"], " s", 2),
                _cell(one["robot_hold_ms"], " ms", 0),
                str(one["interrupted"]),
                f"{one['commands']:,}",
            ]
        )
    return lines


def _cell(spread: Mapping[str, float] | None, unit: str, digits: int) -> str:
    """Median and worst."""
    if spread is None:
        return "-"
    return f"{spread['median']:.{digits}f}, at worst {spread['worst']:.{digits}f}{unit}"
