"""The evaluation bench: both loops run the same episodes, and whether they agree is told."""

from pathlib import Path

import pytest
import torch

from embodied.benchmarks import evaluate
from embodied.benchmarks.evaluate import (
    bench_evaluate,
    compare_outcomes,
    our_outcomes,
    peer_env_counts,
    peer_outcomes,
    save_untrained,
)
from embodied.config import BenchConfig
from embodied.evaluation.policy_loading import load_policy


def test_successes_are_compared_seed_by_seed_and_returns_by_how_far_they_are_apart() -> None:
    ours = [(1, True, 5.0), (2, False, 1.0)]
    near = [(1, True, 5.25), (2, False, 1.0)]
    swapped = [(1, False, 5.0), (2, True, 1.5)]
    same = {"same_successes": True, "successes": 1, "episodes": 2, "largest_return_difference": 0.25}
    assert compare_outcomes(ours, [near, ours]) == same
    other = compare_outcomes(ours, [near, swapped])
    assert not other["same_successes"]
    assert other["largest_return_difference"] == 0.5
    assert not compare_outcomes(ours, [[(7, True, 5.0), (8, False, 1.0)]])["same_successes"]


def test_outcomes_are_read_from_both_sides_alike() -> None:
    rows = [{"env_seed": 3, "success": True, "return": 2.5, "steps": 9}]
    episodes = {"per_episode": [{"seed": 3, "success": True, "sum_reward": 2.5, "episode_ix": 0}]}
    assert our_outcomes(rows) == peer_outcomes(episodes) == [(3, True, 2.5)]


def test_lerobot_runs_with_its_own_number_of_environments_and_with_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 8 cores LeRobot takes 70 %, rounded down, and we take 16; neither more than there are episodes."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert peer_env_counts(60) == [5, 16]
    assert peer_env_counts(3) == [3]


def test_the_checkpoint_drifts_forwards(tmp_path: Path) -> None:
    _, _, postprocessor = load_policy(save_untrained(tmp_path, 32), "cpu")
    torch.testing.assert_close(postprocessor(torch.zeros(1, 4)), torch.tensor([evaluate.DRIFT]))


@pytest.mark.slow
@pytest.mark.render
@pytest.mark.timeout(1200)
def test_both_loops_run_the_same_episodes_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "EPISODE_LENGTH", 15)
    monkeypatch.setattr(evaluate, "peer_env_counts", lambda episodes: [1, 2])
    result = bench_evaluate(BenchConfig(repeats=1, steps=2, image_size=32))
    (pair,) = result["pairs"]
    assert pair.keys() == {"ours", "peer_1_envs", "peer_2_envs"}
    assert result["ours"] == pair["ours"] > 0
    assert result["peer"] == pair[f"peer_{result['peer_envs']}_envs"]
    assert result["peer"] == max(pair["peer_1_envs"], pair["peer_2_envs"])
    assert result["ratio"] == result["ours"] / result["peer"]
    assert result["same_successes"]
    assert result["largest_return_difference"] < 1e-3
    assert result["episodes"] == 2
    assert "episodes per minute" in result["unit"]
