import numpy as np
import pytest

from embodied.robots.sensors import Reading, Sensors


def reading(tick: int) -> Reading:
    """Tick n was at n seconds; its pictures and its state say n."""
    pictures = {name: np.full((2, 2, 3), tick, np.uint8) for name in ("front", "wrist")}
    return Reading(
        tick=tick,
        time=float(tick),
        state=np.full(3, float(tick)),
        pictures=pictures,
        is_holding=False,
        is_success=False,
    )


def test_without_delay_the_newest_reading_is_delivered() -> None:
    sensors = Sensors()
    for tick in range(4):
        sensors.keep(reading(tick))
    assert sensors.latest(3.0).tick == 3


def test_with_delay_it_is_the_newest_of_those_that_are_old_enough() -> None:
    sensors = Sensors()
    for tick in range(6):
        sensors.keep(reading(tick))
        ages = sensors.latest(float(tick), delay=2.5).tick
    assert ages == 2
    assert sensors.latest(5.5, delay=2.5).tick == 3


def test_a_lost_picture_is_the_last_one_again_and_all_else_is_new() -> None:
    sensors = Sensors()
    sensors.keep(reading(0))
    sensors.keep(reading(1), frozenset({"wrist"}))
    sensors.keep(reading(2), frozenset({"wrist"}))
    latest = sensors.latest(2.0)
    assert (latest.state[0], latest.pictures["front"][0, 0, 0], latest.pictures["wrist"][0, 0, 0]) == (
        2,
        2,
        0,
    )


def test_there_is_nothing_to_deliver_before_the_first_reading() -> None:
    with pytest.raises(LookupError, match="no reading"):
        Sensors().latest(0.0)
