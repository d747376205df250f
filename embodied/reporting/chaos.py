"""The section on faults in mid-episode: how fast the arm held and ran again, and every episode as a strip."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from embodied.chaos.summary import table
from embodied.reporting.charts import LEFT, RIGHT, WIDTH, Axis, linear_ticks
from embodied.reporting.run_folder import Result, Run
from embodied.reporting.templating import render

COLORS = {"run": 2, "degraded": 4, "hold": 1}
"""States of the control loop, each in a colour of the page; in others nothing has been decided yet, or it
has been told to stop.
"""
END = "end"
BEFORE, LONGEST = 1.0, 12.0
"""Seconds that are drawn before the fault, and at most after it."""

ROW_HEIGHT, GAP, AXIS_HEIGHT = 6.0, 1.5, 36.0


def chaos(run: Run, media: int) -> Markup | None:
    """Per fault the worst and median of every measure, and the states of each repetition over time."""
    if not run.chaos:
        return None
    results = [
        {
            **result,
            "lines": table(result["faults"]),
            "strips": [
                _strips(name, one["what"], [row for row in rows if row["fault"] == name])
                for name, one in result["faults"].items()
                if any(row["fault"] == name for row in rows)
            ],
        }
        for result, rows in run.chaos
    ]
    return render("chaos.html", results=results, colors=COLORS)


def _strips(name: str, what: str, rows: Sequence[Result]) -> dict[str, Any]:
    """A fault's repetitions, one below the other, over seconds since the fault."""
    latest = min(LONGEST, max((row["states"][-1][0] for row in rows if row["states"]), default=0.0))
    axis = Axis(low=-BEFORE, high=max(latest, 1.0), start=LEFT, end=RIGHT)
    bottom = len(rows) * (ROW_HEIGHT + GAP)
    return {
        "name": name.replace("_", " "),
        "what": what,
        "count": len(rows),
        "rows": [(number * (ROW_HEIGHT + GAP), _segments(row, axis)) for number, row in enumerate(rows)],
        "ticks": [(axis.place(x), f"{x:g}") for x in linear_ticks(axis.low, axis.high)],
        "zero": axis.place(0.0),
        "frame": {"width": WIDTH, "height": bottom + AXIS_HEIGHT, "bottom": bottom, "row": ROW_HEIGHT},
    }


def _segments(row: Mapping[str, Any], axis: Axis) -> list[dict[str, Any]]:
    """What is drawn of a repetition: where each of its states begins, how wide it is, its colour."""
    found = []
    for (begin, state), (end, _) in zip(row["states"], row["states"][1:], strict=False):
        left, right = (axis.place(min(max(time, axis.low), axis.high)) for time in (begin, end))
        if state in COLORS and right > left:
            found.append({"x": left, "width": right - left, "color": COLORS[state]})
    return found
