"""The section on a comparison: success per arm with its interval, and the differences that were asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from embodied.evaluation.floors import EXPERT, FLOORS
from embodied.reporting import formats
from embodied.reporting.run_folder import Run
from embodied.reporting.templating import render

Result = Mapping[str, Any]


def comparison(run: Run, media: int) -> Markup | None:
    """Per condition a bar for the expert and every arm beside the floors, and a table of differences."""
    if not run.comparisons:
        return None
    return render("comparison.html", results=[_described(result) for result in run.comparisons])


def _described(result: Result) -> Result:
    conditions = dict.fromkeys(rate["condition"] for rate in result["rates"])
    return {
        "name": result["name"],
        "conditions": [_condition(name, result["rates"]) for name in conditions],
        "lines": comparison_lines(result),
    }


def _condition(name: str, rates: Sequence[Result]) -> Result:
    found = {rate["arm"]: rate for rate in rates if rate["condition"] == name}
    floors = {floor: found[floor]["success_rate"] for floor in FLOORS if floor in found}
    return {
        "name": name,
        "arms": [rate for arm, rate in found.items() if arm not in FLOORS],
        "floors": floors,
        "training_seeds": max(len(rate["training_seeds"]) for rate in found.values()),
        "expert": EXPERT,
    }


def comparison_lines(result: Result) -> list[list[str]]:
    """A table, its header first: success of each arm in each condition, and what sets it apart.

    Differences are in points, with their 95 % intervals; a decision's time is the median alone.
    """
    lines = [["condition", "arm", "success", "95 % interval", "difference, in points", "ms per decision"]]
    for rate in result["rates"]:
        differences = [
            f"{100 * one['difference']:+.1f} over {one['against']} "
            f"({100 * one['low']:.1f} to {100 * one['high']:.1f})"
            for one in result["comparisons"]
            if (one["arm"], one["condition"]) == (rate["arm"], rate["condition"])
        ]
        p50 = rate["latency_ms"]["p50"]
        lines.append(
            [
                rate["condition"],
                rate["arm"].replace("noop", "no-op"),
                formats.percent(rate["success_rate"]),
                formats.interval(rate["low"], rate["high"]),
                "; ".join(differences),
                "" if p50 is None else formats.number(p50),
            ]
        )
    return lines
