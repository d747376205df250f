"""What is read from logs, with answers known by hand."""

from typing import Any

import pytest

from embodied.chaos.checks import (
    UNLOGGED,
    Row,
    command_problems,
    find_hold,
    find_run,
    restlessness,
    robot_hold,
    states,
)
from embodied.serving.profiles import PROFILES
from tests.chaos.logs import BEGIN, SPENT, STALE, TICK, motor_log, motor_tick, tick_log

SO101 = PROFILES["so101"]


def problems(change: Any, letters: str = "rrrrrr") -> list[str]:
    """What is found in a log to whose commands, motor side first, something has been done."""
    ticks = tick_log(letters)
    motors = motor_log(ticks)
    change([row for row in motors if row["event"] == "command"], motors, ticks)
    return command_problems(SO101, motors, ticks)


def test_a_smooth_motion_out_of_the_filter_is_fine() -> None:
    assert problems(lambda commands, motors, ticks: None) == []


def test_a_jump_is_found_even_if_the_filter_let_it_pass() -> None:
    def jump(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        for row in commands[3:]:  # and with them what the motors followed
            row["target"][0] += 30
        for row in ticks[4:]:
            row["command"][0] += 30

    assert problems(jump) == ["command 3 is too fast", "command 3 is too sudden"]


def test_what_is_no_number_is_found() -> None:
    def spoil(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        commands[2]["target"][1] = ticks[3]["command"][1] = None

    assert "command 2 is not finite" in problems(spoil)


def test_a_command_that_is_not_the_filters_is_found() -> None:
    def touch(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        commands[2]["target"][0] += 0.001

    assert "command 2 did not come out of the safety filter" in problems(touch)


@pytest.mark.parametrize(("count", "is_fine"), [(UNLOGGED, True), (UNLOGGED + 1, False)])
def test_a_killed_loop_may_have_sent_a_little_more_than_it_wrote(count: int, is_fine: bool) -> None:
    def cut(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        del ticks[-count:]

    expected = [] if is_fine else ["command 5 did not come out of the safety filter"]
    assert problems(cut) == expected


@pytest.mark.parametrize("change", [{"target": [7.0] * 6}, {"source": "refused"}, {"sequence": 99}])
def test_motors_that_follow_what_nobody_commanded_are_found(change: dict[str, Any]) -> None:
    def mislead(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        motors[-1].update(change)

    (line,) = problems(mislead)
    assert line.startswith("the motors followed what nobody commanded at tick 6")


def test_motors_that_hold_by_themselves_are_fine() -> None:
    def hold(commands: list[Row], motors: list[Row], ticks: list[Row]) -> None:
        motors.append(motor_tick(7, BEGIN + 2, "hold", 6, [5.5] * 6))

    assert problems(hold) == []


def test_a_log_without_a_command_proves_nothing() -> None:
    ticks = tick_log("rr")
    assert command_problems(SO101, motor_log([]), ticks) == ["no command reached the motors"]


# --- holds ----------------------------------------------------------------------------------------


def test_a_hold_counts_from_the_tick_that_took_the_last_action() -> None:
    hold = find_hold(tick_log("rrdhh", left=[2, 1, 0, 0, 0]), BEGIN)
    assert hold is not None
    assert (hold.ticks, hold.reason) == (1, "the queue is empty")
    assert hold.time == pytest.approx(BEGIN + 3 * TICK + SPENT)
    assert hold.seconds == pytest.approx(TICK + SPENT)


def test_a_loop_that_goes_on_without_actions_is_late_by_as_many_ticks() -> None:
    hold = find_hold(tick_log("rrdddh", left=[1, 0, 0, 0, 0, 0]), BEGIN)
    assert hold is not None
    assert hold.ticks == 4
    assert hold.seconds == pytest.approx(4 * TICK + SPENT)


def test_a_hold_counts_from_the_look_being_stale_if_that_was_first() -> None:
    looked = BEGIN + 2.5 * TICK - STALE
    hold = find_hold(tick_log("rrrhh", looked=looked), BEGIN)
    assert hold is not None
    assert hold.ticks == 1
    assert hold.seconds == pytest.approx(0.5 * TICK + SPENT)


def test_a_hold_for_another_reason_has_no_delay() -> None:
    hold = find_hold(tick_log("rrh"), BEGIN)
    assert hold is not None
    assert (hold.seconds, hold.ticks) == (None, None)


def test_only_holds_after_the_fault_count() -> None:
    ticks = tick_log("rhrrh")
    hold = find_hold(ticks, BEGIN + 2 * TICK)
    assert hold is not None
    assert hold.time == pytest.approx(BEGIN + 4 * TICK + SPENT)
    assert find_hold(ticks, BEGIN + 1) is None


def test_running_again_is_the_next_command_that_a_decision_gave() -> None:
    ticks = tick_log("rhhdr")
    assert find_run(ticks, BEGIN + TICK) == pytest.approx(BEGIN + 4 * TICK + SPENT)
    assert find_run(ticks, BEGIN + 1) is None


@pytest.mark.parametrize("letters", ["rr" + "h" * 12, "rr" + "hs" * 6])
def test_an_arm_that_moves_while_nobody_decides_is_found(letters: str) -> None:
    ticks = tick_log(letters)
    assert restlessness(SO101, ticks) == []
    ticks[-1]["command"][0] += 0.5  # 0.37 s after; braking takes 0.12 s, and there are two ticks more
    (line,) = restlessness(SO101, ticks)
    assert line.endswith("0.37 s after that began")


def test_braking_is_no_motion() -> None:
    ticks = tick_log("rr" + "h" * 12)
    for row in ticks[3:6]:
        row["command"][0] -= 0.5
    assert restlessness(SO101, ticks) == []


# --- the robot itself -----------------------------------------------------------------------------


def robot(sources: str) -> list[Row]:
    names = {"c": "command", "h": "hold"}
    return [motor_tick(n, BEGIN + n / 10, names[letter], n, [0.0] * 6) for n, letter in enumerate(sources)]


def test_the_robot_holds_from_the_tick_after_the_last_command_that_it_follows() -> None:
    assert robot_hold(robot("ccchhh"), BEGIN + 0.05) == pytest.approx(0.25)
    assert robot_hold(robot("cchchh"), BEGIN + 0.05) == pytest.approx(0.35)
    assert robot_hold(robot("cccccc"), BEGIN + 0.05) is None


def test_what_the_robot_does_after_the_fault_does_not_count() -> None:
    assert robot_hold(robot("cchhcc"), BEGIN + 0.05, BEGIN + 0.35) == pytest.approx(0.15)


def test_states_are_told_by_their_beginnings_and_the_logs_end() -> None:
    found = states(tick_log("rrdh"), BEGIN + TICK)
    assert [name for _, name in found] == ["run", "degraded", "hold", "end"]
    assert [time for time, _ in found] == pytest.approx([-TICK, TICK, 2 * TICK, 2 * TICK], abs=1e-3)
    assert states([], BEGIN) == []
