"""The section on speed: what benches of a folder measured as one thing grows, drawn as curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from embodied.reporting.charts import Series, line_chart
from embodied.reporting.curves import Chart
from embodied.reporting.run_folder import Run
from embodied.reporting.templating import render

Result = Mapping[str, Any]


def speed(run: Run, media: int) -> Markup | None:
    """Milliseconds of a decision against all that `bench growth` and `bench plan` vary."""
    charts = [chart for result in run.benches for chart in DRAWN[result["benchmark"]](result)]
    return render("speed.html", charts=charts) if charts else None


def _growth(result: Result) -> list[Chart]:
    return [
        _chart(name, [("", [(row["value"], row["p50"]) for row in rows])], result["unit"])
        for name, rows in result["growth"].items()
    ]


def _plan(result: Result) -> list[Chart]:
    """A line per planner; rows are named by planner and number of candidates."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, row in result["rows"].items():
        planner, _, candidates = name.partition(" ")
        if candidates:
            lines.setdefault(planner, []).append((float(candidates), row["p50"]))
    return [_chart("candidates", list(lines.items()), result["unit"])]


def _chart(name: str, lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], unit: str) -> Chart:
    series = [Series(label=label, points=points, color=color) for color, (label, points) in enumerate(lines)]
    highest = max(y for one in series for _, y in one.points)
    svg = line_chart(series, title=name, x_label=name, bounds=(0.0, 1.05 * highest))
    return Chart(title=name, unit=unit, svg=svg, legend=[one.label for one in series if one.label])


DRAWN = {"growth": _growth, "plan": _plan}
"""Benches that are drawn, by name."""
