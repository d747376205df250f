import numpy as np
import pytest

from embodied.serving.motor_log import violations
from embodied.serving.profiles import PROFILES

SO101 = PROFILES["so101"]
TICK = 1 / 30
STILL = np.zeros(6)


def found(first_joint: list[float], steps: list[float] | None = None, start: float = 0.0) -> list[str]:
    commands = np.zeros((len(first_joint), 6))
    commands[:, 0] = first_joint
    begin = STILL.copy()
    begin[0] = start
    return violations(SO101, begin, steps or [TICK] * len(first_joint), commands)


def test_a_gentle_motion_is_fine() -> None:
    assert found([0.0, 1.0, 3.0, 5.0, 6.0, 6.0]) == []


def test_what_is_not_finite_is_found() -> None:
    assert found([0.0, np.nan]) == ["command 1 is not finite"]


def test_what_leaves_the_range_is_found() -> None:
    assert found([110.1], start=110.0) == ["command 0 leaves its range"]


def test_coming_back_from_outside_is_fine_and_going_further_is_not() -> None:
    assert found([115.0, 114.5], start=115.0) == []
    assert found([115.5], start=115.0) == ["command 0 leaves its range"]


@pytest.mark.parametrize("jump", [6.1, -6.1])  # 183 degrees a second
def test_what_is_too_fast_is_found(jump: float) -> None:
    assert "command 3 is too fast" in found([jump / 4, jump * 3 / 4, jump * 3 / 2, jump * 5 / 2])


def test_what_is_too_sudden_is_found() -> None:
    # 1488 degrees a second squared are 1.653 degrees in the first tick.
    assert found([1.65]) == []
    assert found([1.66]) == ["command 0 is too sudden"]


def test_after_a_silence_the_robot_is_at_rest() -> None:
    # 1.6, 4.8 and on at 3.2 a tick would be smooth, had the arm not come to rest meanwhile.
    assert found([1.6, 4.8, 8.0], [TICK, TICK, TICK]) == []
    assert found([1.6, 4.8, 8.0], [TICK, TICK, 1.0]) == ["command 2 is too sudden"]


@pytest.mark.parametrize("step", [0.0, -1.0, float("nan")])
def test_without_time_only_the_last_command_may_come(step: float) -> None:
    assert found([1.0, 1.0], [TICK, step]) == []
    assert found([1.0, 1.1], [TICK, step]) == ["command 0 is new without a step of time"]
