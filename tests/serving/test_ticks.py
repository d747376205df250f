import pytest

from embodied.serving.ticks import TickTimes


def summary(*seconds: float) -> dict[str, float | None]:
    times = TickTimes()
    for one in seconds:
        times.add(one)
    return times.summary()


def test_quantiles_are_those_of_the_steps_that_reach_them() -> None:
    times = [0.00005] * 90 + [0.00325] * 9 + [0.02001]
    assert summary(*times) == {"p50_ms": 0.1, "p99_ms": 3.3, "max_ms": 20.01}
    assert summary(*times[:90], *[0.02] * 10)["p99_ms"] == pytest.approx(20.1)


def test_what_is_very_long_is_counted_and_told_in_full() -> None:
    assert summary(5.0)["max_ms"] == 5000.0
    assert summary(5.0)["p50_ms"] == pytest.approx(1000.1)


def test_of_nothing_nothing_is_known() -> None:
    assert summary() == {"p50_ms": None, "p99_ms": None, "max_ms": None}
