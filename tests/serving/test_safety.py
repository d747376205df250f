import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from embodied.errors import UserError
from embodied.serving.motor_log import violations
from embodied.serving.profiles import PROFILES, RobotProfile
from embodied.serving.safety import Command, Rejection, SafetyFilter

SO101 = PROFILES["so101"]
TICK = 1 / 30
STILL = np.zeros(6)


def started(profile: RobotProfile = SO101, at: np.ndarray | None = None, **options) -> SafetyFilter:
    filter_ = SafetyFilter(profile, **options)
    filter_.start(np.zeros(len(profile.names)) if at is None else at)
    return filter_


def one(value: float) -> np.ndarray:
    return np.array([value, 0, 0, 0, 0, 0])


def run(filter_: SafetyFilter, targets: list[np.ndarray], dt: float = TICK) -> list[Command]:
    """Commands for a robot that is where it was told to be."""
    commands, position = [], filter_.hold(dt).action
    for target in targets:
        commands.append(filter_.command(target, position, dt))
        position = commands[-1].action
    return commands


# --- chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_chunk_with_one_bad_number_is_rejected_whole(bad: float) -> None:
    chunk = np.zeros((10, 6), np.float32)
    chunk[7, 2] = bad
    assert SafetyFilter(SO101).chunk(chunk) == Rejection(
        reason="a chunk whose step 7 is not finite: expected finite numbers"
    )


@pytest.mark.parametrize("shape", [(10, 5), (10, 7), (6,), (0, 6), (1, 10, 6)])
def test_a_chunk_of_another_shape_is_rejected(shape: tuple[int, ...]) -> None:
    assert isinstance(SafetyFilter(SO101).chunk(np.zeros(shape)), Rejection)


@pytest.mark.parametrize("chunk", [[[0.0] * 6], np.array([["0"] * 6]), np.array([[None] * 6])])
def test_a_chunk_of_no_numbers_is_rejected(chunk: object) -> None:
    assert isinstance(SafetyFilter(SO101).chunk(chunk), Rejection)  # type: ignore[arg-type]


def test_a_good_chunk_passes_as_it_is() -> None:
    chunk = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert (SafetyFilter(SO101).chunk(chunk) == chunk).all()


# --- commands -------------------------------------------------------------------------------------


def test_what_is_within_all_limits_passes_unchanged() -> None:
    targets = [one(20 - 20 * math.cos(tick / 10)) for tick in range(100)]  # 60 degrees a second at most
    for target, command in zip(targets, run(started(), targets), strict=True):
        assert command.action == pytest.approx(target, abs=1e-9)
        assert command.flags == ()


def test_a_far_target_is_reached_without_overshoot_and_says_which_limits_kept_it() -> None:
    commands = run(started(off=("tracking",)), [one(50.0)] * 30)
    assert commands[0].action[0] == pytest.approx(1488 / 30**2)
    assert {"velocity", "acceleration"} <= set(commands[0].flags)
    assert max(command.action[0] for command in commands) <= 50.0 + 1e-9
    assert commands[-1].action[0] == pytest.approx(50.0)
    assert commands[-1].flags == ()


def test_a_target_outside_the_range_ends_on_its_limit() -> None:
    commands = run(started(), [one(1e38)] * 60)
    assert commands[-1].action[0] == 110.0
    assert "position" in commands[-1].flags


def test_a_hold_brakes_within_the_limits_and_then_stands_still() -> None:
    filter_ = started()
    moving = run(filter_, [one(2.0 * tick) for tick in range(1, 20)])
    held = [filter_.hold(TICK).action for _ in range(10)]
    log = np.array([*(command.action for command in moving), *held])
    assert violations(SO101, STILL, [TICK] * len(log), log) == []
    assert (held[-1] == held[-2]).all()


def test_a_stuck_joint_is_not_driven_away_from() -> None:
    filter_, commands = started(), []
    for _ in range(100):
        commands.append(filter_.command(one(90.0), STILL, TICK))
    assert commands[-1].action[0] == pytest.approx(30.0)
    assert "tracking" in commands[-1].flags


@pytest.mark.parametrize(
    ("action", "position", "flag"),
    [
        (one(math.nan), STILL, "not_finite"),
        (np.zeros(5), STILL, "dimension"),
        (one(5.0), one(math.inf), "measurement"),
        (one(5.0), np.zeros(7), "measurement"),
    ],
)
def test_what_cannot_be_used_brakes(action: np.ndarray, position: np.ndarray, flag: str) -> None:
    command = started().command(action, position, TICK)
    assert (command.action == STILL).all()
    assert flag in command.flags


@pytest.mark.parametrize("dt", [0.0, -1.0, math.nan, math.inf])
def test_without_a_usable_time_the_last_command_is_repeated(dt: float) -> None:
    filter_ = started()
    last = run(filter_, [one(1.0)])[-1]
    command = filter_.command(one(2.0), STILL, dt)
    assert (command.action == last.action).all()
    assert command.flags == ("clock",)


def test_after_a_silence_the_arm_starts_from_rest() -> None:
    filter_ = started()
    run(filter_, [one(2.0 * tick) for tick in range(1, 20)])
    before = filter_.hold(0.0).action[0]
    command = filter_.command(one(60.0), one(before), 2.0)
    assert command.action[0] - before == pytest.approx(1488 / 30**2)
    assert "gap" in command.flags


def test_a_robot_whose_commands_are_motions_stops_at_zero() -> None:
    filter_ = started(PROFILES["metaworld"])
    full = np.array([1.0, -1.0, 1.0, -1.0])
    assert filter_.command(full, np.zeros(4), 1 / 80).action == pytest.approx(full)
    assert filter_.command(-full, np.zeros(4), 1 / 80).action == pytest.approx(-full)
    assert filter_.hold(1 / 80).action == pytest.approx(np.zeros(4))


# --- start and switches ---------------------------------------------------------------------------


def test_an_arm_that_hangs_a_little_outside_is_brought_back_gently() -> None:
    filter_ = started(at=one(115.0))
    commands = [command.action[0] for command in run(filter_, [one(115.0)] * 20)]
    assert commands[0] == pytest.approx(115.0 - 1488 / 30**2)
    assert (np.diff(commands) <= 0).all()
    assert commands[-1] == pytest.approx(110.0)


@pytest.mark.parametrize("position", [one(145.0), one(math.nan), np.zeros(5)])
def test_a_start_that_cannot_be_is_refused(position: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected"):
        SafetyFilter(SO101).start(position)


def test_a_filter_that_was_not_started_gives_no_command() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        SafetyFilter(SO101).command(STILL, STILL, TICK)


def test_a_limit_is_turned_off_by_name_alone() -> None:
    free = started(off=("velocity", "acceleration", "tracking"))
    assert free.command(one(100.0), STILL, TICK).action[0] == pytest.approx(100.0)
    with pytest.raises(UserError, match=r"--safety\.off=speed: expected one of position, velocity"):
        SafetyFilter(SO101, off=("speed",))


def test_even_with_all_limits_off_commands_are_finite() -> None:
    free = started(off=("position", "velocity", "acceleration", "tracking"))
    for target in (1e300, -1e300, 0.0, 1e38):
        assert np.isfinite(free.command(one(target), STILL, TICK).action).all()


class Wall:
    """The robot touches itself where its first joint is above 20 degrees."""

    def penetration(self, positions: np.ndarray) -> float:
        return max(0.0, float(positions[0]) - 20.0)


def test_braking_begins_before_the_arm_would_touch_itself() -> None:
    filter_ = started(collisions=Wall())
    commands = run(filter_, [one(3.0 * tick) for tick in range(1, 20)])
    assert max(command.action[0] for command in commands) <= 20.0
    assert "self_collision" in commands[-1].flags
    log = np.array([command.action for command in commands])
    assert violations(SO101, STILL, [TICK] * len(log), log) == []
    assert run(filter_, [one(0.0)] * 40)[-1].action[0] == pytest.approx(0.0)


# --- the invariant --------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.floats(-400, 400),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38, 3.4e38, 1e300, 5e-324]),
)
STEPS = st.one_of(
    st.just(TICK), st.floats(0.0, 0.2), st.sampled_from([0.0, 1e-9, 1e-6, 1e-4, 5.0, -1.0, math.nan])
)


def tick_of(size: int) -> st.SearchStrategy[tuple[np.ndarray | None, np.ndarray | None, float]]:
    """An action or a hold, a measurement that is anything or where the robot was told to be, and a step."""
    vector = arrays.arrays(np.float64, size, elements=NUMBERS)
    return st.tuples(st.none() | vector, st.none() | vector, STEPS)


def drive(filter_: SafetyFilter, start: np.ndarray, ticks: list) -> list[str]:
    position, log = start, []
    for action, measured, dt in ticks:
        where = position if measured is None else measured
        command = filter_.hold(dt) if action is None else filter_.command(action, where, dt)
        position = command.action
        log.append(position)
    return violations(filter_.profile, start, [dt for *_, dt in ticks], np.array(log))


@pytest.mark.parametrize("name", ["so101", "aloha"])
@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_every_command_is_finite_and_within_limits_whatever_is_put_in(name: str, data: st.DataObject) -> None:
    profile = PROFILES[name]
    size = len(profile.names)
    inside = data.draw(arrays.arrays(np.float64, size, elements=st.floats(-0.05, 1.05)))
    start = np.array(profile.low) + inside * (np.array(profile.high) - np.array(profile.low))
    ticks = data.draw(st.lists(tick_of(size), min_size=1, max_size=12))
    assert drive(started(profile, start), start, ticks) == []


def hard_case(make: Callable[[int], float], steps: Callable[[int], float]) -> list[str]:
    ticks = [(np.full(6, make(tick)), None, steps(tick)) for tick in range(300)]
    return drive(started(), STILL, ticks)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 50])
def test_jumping_between_the_ends_at_uneven_times_stays_within_limits(period: int) -> None:
    assert (
        hard_case(lambda t: 1e38 * (-1) ** (t // period), lambda t: TICK * (0.2, 1.0, 1.4, 0.01)[t % 4]) == []
    )


def test_the_log_would_show_a_filter_that_is_off() -> None:
    free = SafetyFilter(replace(SO101), off=("velocity", "acceleration", "tracking"))
    free.start(STILL)
    assert drive(free, STILL, [(one(100.0), None, TICK)]) != []
