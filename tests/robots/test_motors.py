import numpy as np
import pytest

from embodied.robots.motors import Motors

HERE, THERE = np.array([1.0, 2.0]), np.array([5.0, 6.0])


def test_before_the_first_command_the_motors_hold_where_the_robot_is() -> None:
    motor = Motors().follow(HERE, 0.0)
    assert (motor.source, motor.sequence, motor.target.tolist()) == ("hold", -1, [1.0, 2.0])


def test_a_fresh_command_is_followed_and_a_stale_one_is_not() -> None:
    motors = Motors(watchdog_seconds=0.125)
    motors.receive(4, THERE, 10.0)
    assert motors.follow(HERE, 10.125).target.tolist() == [5.0, 6.0]
    motor = motors.follow(HERE, 10.126)
    assert (motor.source, motor.sequence, motor.target.tolist()) == ("hold", 4, [1.0, 2.0])


def test_the_position_to_hold_is_the_one_at_the_beginning_of_the_silence() -> None:
    motors = Motors()
    motors.follow(HERE, 0.0)
    assert motors.follow(THERE, 1.0).target.tolist() == [1.0, 2.0]
    motors.receive(1, THERE, 2.0)
    motors.follow(HERE, 2.0)
    assert motors.follow(THERE, 3.0).target.tolist() == [5.0, 6.0]


def test_a_delayed_command_counts_only_then_and_is_fresh_then() -> None:
    motors = Motors(watchdog_seconds=0.1)
    motors.receive(1, THERE, 0.0, delay=0.5)
    assert motors.follow(HERE, 0.4).source == "hold"
    assert motors.follow(HERE, 0.55).source == "command"


def test_of_two_commands_that_are_due_the_newer_counts() -> None:
    motors = Motors()
    motors.receive(1, HERE, 0.0)
    motors.receive(2, THERE, 0.01)
    assert motors.follow(HERE, 0.02).sequence == 2


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_command_that_is_not_finite_never_reaches_the_motors(wrong: float) -> None:
    motors = Motors()
    motors.receive(1, np.array([wrong, 0.0]), 0.0)
    motor = motors.follow(HERE, 0.0)
    assert (motor.source, motor.target.tolist()) == ("refused", [1.0, 2.0])


def test_without_who_sent_it_a_command_counts_no_more() -> None:
    motors = Motors()
    motors.receive(1, THERE, 0.0)
    motors.receive(2, THERE, 0.0, delay=0.05)
    motors.release()
    assert [motors.follow(HERE, time).source for time in (0.0, 0.06)] == ["hold", "hold"]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 11.0])
def test_a_watchdog_that_never_barks_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"--robot\.watchdog="):
        Motors(watchdog_seconds=seconds)
