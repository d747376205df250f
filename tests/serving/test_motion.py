import numpy as np
import pytest

from embodied.serving.motion import (
    Limits,
    Motion,
    advance,
    chase,
    reachable,
    stopping_positions,
    stopping_speed,
)

LIMITS = Limits(
    low=np.array([-1.0]), high=np.array([1.0]), velocity=np.array([2.0]), acceleration=np.array([8.0])
)


def move(motion: Motion, velocity: float, dt: float) -> Motion:
    return advance(motion, np.array([velocity]), reachable(motion, LIMITS, dt), LIMITS, dt)


def at(position: float, velocity: float = 0.0) -> Motion:
    return Motion(position=np.array([position]), velocity=np.array([velocity]))


def test_a_step_and_the_way_to_stop_after_it_use_up_the_distance() -> None:
    # v dt + v^2 / 2a = 0.5 * 0.25 + 0.25 / 2 = 0.25 at v = 0.5, a = 1.
    assert stopping_speed(np.array([0.25]), np.array([1.0]), 0.25) == pytest.approx(0.5)


def test_from_rest_the_first_step_gains_what_the_acceleration_gives() -> None:
    assert move(at(0.0), 100.0, 0.1).velocity == pytest.approx(0.8)


def test_the_speed_ends_at_its_limit() -> None:
    assert move(at(-0.9, 1.9), 100.0, 0.1).velocity == pytest.approx(2.0)


def test_full_speed_towards_the_limit_brakes_in_time_and_stops_on_it() -> None:
    motion = at(0.0)
    for _ in range(60):
        before, motion = motion, move(motion, 100.0, 0.02)
        assert abs(motion.velocity - before.velocity) <= 8.0 * 0.02 + 1e-12
    assert motion.position == pytest.approx(1.0)
    assert motion.position <= 1.0


def test_a_joint_found_outside_its_range_goes_no_further_and_comes_back_gently() -> None:
    assert move(at(1.5), 100.0, 0.1).position == 1.5
    assert move(at(1.5), -100.0, 0.1).position == pytest.approx(1.5 - 0.8 * 0.1)


def test_a_moving_target_that_is_met_is_followed_exactly() -> None:
    velocity = chase(at(0.3, 1.0), np.array([0.4]), np.array([1.0]), LIMITS, 0.1)
    assert velocity == pytest.approx(1.0)


def test_the_way_to_stop_ends_where_the_formula_says() -> None:
    path = stopping_positions(at(0.0, 2.0), LIMITS.acceleration, 3)
    assert path[:, 0] == pytest.approx([0.0, 0.1875, 0.25])  # 2 t - 4 t^2 at 0, 1/8 and 1/4 s
