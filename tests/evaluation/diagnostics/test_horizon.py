from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.data.cache import FrameCache
from embodied.evaluation.diagnostics.horizon import by_horizon, horizon_errors, moments, window_errors
from tests.evaluation.diagnostics.conftest import BRIGHTNESS_PER_METRE, PointWorld

GONE = np.nan


@pytest.fixture(scope="module")
def cache(points: Path) -> FrameCache:
    return FrameCache.open(points, episodes=[0, 1])


def test_moments_end_with_the_present_and_begin_with_the_episode() -> None:
    assert moments(12, 3, 5) == [2, 7, 12]
    assert moments(6, 3, 5) == [0, 1, 6]
    assert moments(0, 2, 5) == [0, 0]


def test_errors_are_mean_squares_and_nothing_lies_behind_the_end() -> None:
    history = torch.tensor([[[[9.0, 9.0]], [[1.0, 1.0]]]])  # (1, 2, 1, 2); the present is 1, 1
    future = torch.tensor([[[[2.0, 1.0]], [[4.0, 1.0]], [[0.0, 0.0]]]])
    predicted = torch.tensor([[[[2.0, 2.0]], [[4.0, 1.0]], [[7.0, 7.0]]]])
    errors, copied = window_errors(history, predicted, future, np.array([[False, False, True]]))
    np.testing.assert_array_equal(errors, [[0.5, 0.0, GONE]])
    np.testing.assert_array_equal(copied, [[0.5, 4.5, GONE]])


def test_the_skill_is_what_the_model_takes_off_the_copying_error() -> None:
    errors = np.array([[1.0, 2.0, GONE], [1.0, GONE, GONE], [4.0, 4.0, GONE]])
    copied = np.array([[2.0, 4.0, GONE], [2.0, GONE, GONE], [4.0, 2.0, GONE]])
    rows = by_horizon(errors, copied, np.array([7, 7, 8]), chunk_steps=12, seed=0)
    assert [(row["chunks"], row["steps"], row["windows"], row["episodes"]) for row in rows] == [
        (1, 12, 3, 2),
        (2, 24, 2, 2),
    ]
    assert [row["error"] for row in rows] == [2.0, 3.0]
    assert [row["copy_error"] for row in rows] == pytest.approx([8 / 3, 3.0])
    assert [row["skill"] for row in rows] == pytest.approx([0.25, 0.0])
    # Episode 7 alone gives 0.5 at both horizons, episode 8 alone 0 and -1.
    assert (rows[0]["skill_low"], rows[0]["skill_high"]) == pytest.approx((0.0, 0.5))
    assert (rows[1]["skill_low"], rows[1]["skill_high"]) == pytest.approx((-1.0, 0.5))


@pytest.mark.parametrize("history", [1, 3])
def test_a_right_model_has_no_error_and_copying_grows_with_the_horizon(
    cache: FrameCache, history: int
) -> None:
    found = horizon_errors(PointWorld(history=history), cache, horizon=16, seed=0)
    assert found["episodes"] == 2
    first, second = found["horizons"]  # frames 0, 4 and 8 hold two chunks: no episode reaches a third
    assert (first["windows"], second["windows"]) == (4, 2)
    assert max(first["error"], second["error"]) < 1e-4
    assert first["copy_error"] == pytest.approx((0.4 * BRIGHTNESS_PER_METRE) ** 2, rel=0.02)
    assert second["copy_error"] == pytest.approx((0.8 * BRIGHTNESS_PER_METRE) ** 2, rel=0.02)
    assert min(first["skill_low"], second["skill_low"]) > 0.99


def test_the_horizon_can_be_cut_short(cache: FrameCache) -> None:
    rows = horizon_errors(PointWorld(), cache, horizon=1, seed=0)["horizons"]
    assert [(row["steps"], row["windows"]) for row in rows] == [(4, 4)]
