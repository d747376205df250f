import json
from pathlib import Path

import pytest

from embodied.evaluation.summary import episode_rows, format_table, summarise, write_rows
from embodied.rollout import Episode, EpisodeResult


def results() -> list[EpisodeResult]:
    """`east` succeeds once in two, `west` four times in four; 10 steps and one decision of 2 ms each."""
    outcomes = [("east", True), ("east", False), *[("west", True)] * 4]
    return [
        EpisodeResult(
            episode=Episode(task=task, seed=index),
            instruction=f"go {task}",
            success=success,
            steps=10,
            decision_seconds=[0.002],
        )
        for index, (task, success) in enumerate(outcomes)
    ]


def test_overall_success_is_the_mean_over_tasks_not_over_episodes() -> None:
    summary = summarise(episode_rows("policy", results()))
    assert summary["success_rate"] == pytest.approx(0.75)
    assert (summary["successes"], summary["episodes"]) == (5, 6)


def test_a_task_lists_its_counts_interval_seeds_lengths_and_latency() -> None:
    east = summarise(episode_rows("policy", results()))["tasks"][0]
    assert (east["task"], east["instruction"]) == ("east", "go east")
    assert (east["successes"], east["episodes"], east["success_rate"]) == (1, 2, 0.5)
    assert (east["wilson_low"], east["wilson_high"]) == pytest.approx((0.0945, 0.9055), abs=5e-5)
    assert (east["seeds"], east["episode_lengths"]) == ([0, 1], [10, 10])
    assert east["latency_ms"] == {"p50": 2.0, "p95": 2.0}


def test_rows_are_written_one_json_object_a_line(tmp_path: Path) -> None:
    rows = episode_rows("policy", results())
    write_rows(rows, tmp_path / "deep" / "episodes.jsonl")
    lines = (tmp_path / "deep" / "episodes.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert rows[1] == {
        "arm": "policy",
        "task": "east",
        "instruction": "go east",
        "env_seed": 1,
        "success": False,
        "steps": 10,
        "return": 0.0,
        "decision_ms": [2.0],
    }


def test_table_has_a_line_per_task_and_the_mean_with_floors() -> None:
    summary = summarise(episode_rows("policy", results()))
    lines = format_table(summary, {"random": summary}).splitlines()
    assert [line.split()[0] for line in lines] == ["task", "east", "west", "mean"]
    assert lines[1].split()[1:4] == ["1/2", "=", "50%"]
    assert lines[-1].split() == ["mean", "75%", "75%"]
