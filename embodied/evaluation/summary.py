"""From episodes to numbers: JSON rows, success per task with its interval, and the table to print."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied.evaluation.statistics import percentiles_ms, success_counts, wilson_interval
from embodied.rollout import EpisodeResult

Row = dict[str, Any]
"""One episode: arm, task, instruction, env_seed, success, steps, return and decision_ms (a list).

A recorded one has `stages` as well: a list of [step, sub-goal], as the task's expert reads the scene.
"""


def episode_rows(arm: str, results: Iterable[EpisodeResult]) -> list[Row]:
    """Turn results into rows of JSON values; `arm` says who acted."""
    return [
        {
            "arm": arm,
            "task": result.episode.task,
            "instruction": result.instruction,
            "env_seed": result.episode.seed,
            "success": result.success,
            "steps": result.steps,
            "return": result.reward,
            "decision_ms": [round(seconds * 1000, 3) for seconds in result.decision_seconds],
            **({"stages": [list(stage) for stage in result.stages]} if result.stages else {}),
        }
        for result in results
    ]


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Success per task and its mean over tasks, of one arm's rows.

    Returns `success_rate` (mean over tasks), `successes`, `episodes`, and `tasks`, a list with `task`,
    `instruction`, `successes`, `episodes`, `success_rate`, `wilson_low`, `wilson_high` (95 %), `seeds`,
    `episode_lengths` (steps) and `latency_ms` (p50 and p95 of a decision, made for a batch of episodes).
    """
    tasks = [_summarise_task(task, rows) for task in dict.fromkeys(row["task"] for row in rows)]
    return {
        "success_rate": sum(task["success_rate"] for task in tasks) / len(tasks),
        "successes": sum(task["successes"] for task in tasks),
        "episodes": len(rows),
        "tasks": tasks,
    }


def _summarise_task(task: str, rows: Sequence[Row]) -> dict[str, Any]:
    rows = [row for row in rows if row["task"] == task]
    successes = sum(row["success"] for row in rows)
    return {
        "task": task,
        "instruction": rows[0]["instruction"],
        **success_counts(successes, len(rows)),
        "seeds": [row["env_seed"] for row in rows],
        "episode_lengths": [row["steps"] for row in rows],
        "latency_ms": percentiles_ms([ms / 1000 for row in rows for ms in row["decision_ms"]]),
    }


def pooled_interval(tasks: Sequence[Mapping[str, Any]]) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval (95 %) over the episodes of several tasks, as one for their mean success.

    On the safe side for a mean of equally large tasks; (None, None) where their sizes differ, since the mean
    over tasks is then not that over episodes.
    """
    if len({task["episodes"] for task in tasks}) != 1:
        return None, None
    return wilson_interval(sum(task["successes"] for task in tasks), sum(task["episodes"] for task in tasks))


def format_table(summary: Mapping[str, Any], floors: Mapping[str, Any]) -> str:
    """One line per task and their mean: success, its interval, the floors, mean steps, decision time."""
    lines = [["task", "success", "95 % interval", *floors, "steps", "ms/decision"]]
    for index, task in enumerate(summary["tasks"]):
        lines.append(
            [
                task["task"],
                f"{task['successes']}/{task['episodes']} = {task['success_rate']:.0%}",
                f"{task['wilson_low']:.0%} to {task['wilson_high']:.0%}",
                *(f"{floor['tasks'][index]['success_rate']:.0%}" for floor in floors.values()),
                f"{sum(task['episode_lengths']) / task['episodes']:.0f}",
                f"{task['latency_ms']['p50']:.1f}",
            ]
        )
    means = [f"{floor['success_rate']:.0%}" for floor in floors.values()]
    lines.append(["mean", f"{summary['success_rate']:.0%}", "", *means, "", ""])
    return align(lines)


def align(lines: Sequence[Sequence[str]]) -> str:
    """A table for the terminal, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)
