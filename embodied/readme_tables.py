"""The README's tables: what `embodied evaluate` and `embodied bench` return, as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied.evaluation.statistics import wilson_interval
from embodied.reporting.comparisons import comparison_lines
from embodied.reporting.deployment import bar_lines
from embodied.reporting.formats import percent
from embodied.reporting.insights import insight_lines

Result = Mapping[str, Any]
Table = list[list[str]]


def evaluation_table(results: Sequence[Result]) -> Table:
    """Evaluation results, one per training seed: success per task for each seed and for all, floors."""
    first = results[0]
    seeds = [f"seed {result['checkpoint']['training_seed']}" for result in results]
    table = [["task", *seeds, "all", "95 % interval", *first["floors"]]]
    for index, task in enumerate(first["tasks"]):
        same_task = [result["tasks"][index] for result in results]
        successes = sum(row["successes"] for row in same_task)
        episodes = sum(row["episodes"] for row in same_task)
        low, high = wilson_interval(successes, episodes)
        rates = [row["success_rate"] for row in same_task] + [successes / episodes]
        floors = [floor["tasks"][index]["success_rate"] for floor in first["floors"].values()]
        table.append(
            [task["task"], *map(percent, rates), f"{percent(low)} to {percent(high)}", *map(percent, floors)]
        )
    return table


def bench_table(results: Sequence[Result]) -> Table:
    """Bench results: medians of ours and of the peer's, and how many times faster ours is."""
    lines = [
        [result["unit"], f"{result['ours']:,.0f}", f"{result['peer']:,.0f}", f"{result['ratio']:.1f}"]
        for result in results
    ]
    return [["measured", "ours", "peer", "ratio"], *lines]


def runtimes_table(results: Sequence[Result]) -> Table:
    """Decisions by mode and runtime: latencies, and the median as a share of the eager one's."""
    lines = [
        [name, f"{row['p50']:.1f}", f"{row['p95']:.1f}", f"{row['times_eager']:.2f}"]
        for result in results
        for name, row in result["rows"].items()
    ]
    return [["decision", "ms, p50", "ms, p95", "times eager's median"], *lines]


def plain_table(results: Sequence[Result]) -> Table:
    """Results that hold a table themselves, as `columns` (names) and `rows` (lists of cells)."""
    return [results[0]["columns"], *(row for result in results for row in result["rows"])]


def expert_table(results: Sequence[Result]) -> Table:
    """Scripted experts: successes, interval, and successes within 200 steps."""
    table = [["expert", "success", "95 % interval", "within 200 steps", "median steps"]]
    for row in [row for result in results for row in result["rows"]]:
        table.append(
            [
                row["task"],
                f"{row['successes']}/{row['episodes']}",
                f"{percent(row['wilson_low'])} to {percent(row['wilson_high'])}",
                f"{row['within_200']}/{row['episodes']}",
                f"{row['median_steps']:.0f}",
            ]
        )
    return table


def imperfect_expert_table(results: Sequence[Result]) -> Table:
    """The scripted experts that failed somewhere."""
    rows = [row for result in results for row in result["rows"]]
    imperfect = [row for row in rows if min(row["successes"], row["within_200"]) < row["episodes"]]
    return expert_table([{"rows": imperfect}])


def comparison_table(results: Sequence[Result]) -> Table:
    """Comparisons, one below the other: success per condition and arm, differences, decision time."""
    tables = [comparison_lines(result) for result in results]
    return [tables[0][0], *(line for table in tables for line in table[1:])]


def task_table(results: Sequence[Result]) -> Table:
    """A comparison's first condition, task by task: success of every arm over its training seeds."""
    rates = [rate for rate in results[0]["rates"] if rate["condition"] == results[0]["rates"][0]["condition"]]
    table = [["task", *(rate["arm"].replace("noop", "no-op") for rate in rates)]]
    for rows in zip(*(rate["tasks"] for rate in rates), strict=True):
        table.append([rows[0]["task"], *(percent(row["success_rate"]) for row in rows)])
    return table


def training_table(results: Sequence[Result]) -> Table:
    """What a comparison's trainings took, a line for each checkpoint."""
    table = [["training", "parameters", "steps", "samples", "minutes, per training seed"]]
    trainings = results[0]["trainings"]
    for name in dict.fromkeys(one["checkpoint"] for one in trainings):
        mine = [one for one in trainings if one["checkpoint"] == name]
        sizes = f"{mine[0]['parameters'] / 1e6:.1f}M", f"{mine[0]['steps']:,}", f"{mine[0]['samples']:,}"
        table.append([name, *sizes, ", ".join(f"{one['seconds'] / 60:.1f}" for one in mine)])
    return table


def looking_table(results: Sequence[Result]) -> Table:
    """How much of what is open policies foresee: with own and others' pictures, and per instruction."""
    names = [Path(result["checkpoint"]["path"]).parents[1].name for result in results]
    other = [result["other_pictures"] for result in results]
    table = [
        ["held-out demonstrations", *names],
        ["all", *map(_with_interval, results)],
        ["with another episode's pictures", *map(_with_interval, other)],
    ]
    for text in sorted(results[0]["instructions"]):
        table.append([f"“{text}”", *(f"{result['instructions'][text]:.2f}" for result in results)])
    return table


def _with_interval(row: Result) -> str:
    low, high = row["interval"]
    return f"{row['share']:.2f} ({low:.2f} to {high:.2f})"


TABLES = {
    "bars": bar_lines,
    "bench": bench_table,
    "comparison": comparison_table,
    "evaluation": evaluation_table,
    "experts": expert_table,
    "imperfect_experts": imperfect_expert_table,
    "insights": insight_lines,
    "looking": looking_table,
    "plain": plain_table,
    "runtimes": runtimes_table,
    "tasks": task_table,
    "trainings": training_table,
}


def markdown(table: Table) -> str:
    """A Markdown table whose first line is the header."""
    lines = [table[0], ["---"] * len(table[0]), *table[1:]]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
