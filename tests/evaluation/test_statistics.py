import pytest

from embodied.evaluation.statistics import percentiles_ms, wilson_interval


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_interval_has_its_published_values(
    successes: int, episodes: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, episodes) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "episodes"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, episodes: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes in {episodes} episodes"):
        wilson_interval(successes, episodes)


def test_percentiles_are_in_milliseconds() -> None:
    assert percentiles_ms([0.001 * k for k in range(1, 102)]) == {"p50": 51.0, "p95": 96.0}
    assert percentiles_ms([]) == {"p50": None, "p95": None}
