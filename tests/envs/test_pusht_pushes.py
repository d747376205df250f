from itertools import pairwise

import numpy as np
import pytest

from envs.pusht import BLOCK, PUSHER, PushTEnv
from envs.pusht_pushes import (
    CENTRE_OF_MASS,
    DETOUR,
    DISTANCES,
    RADIUS,
    RUN_UP,
    Ways,
    all_pushes,
    clearance,
    step_clear,
    turn,
    uncovered,
    ways_between_pushes,
)

ABOVE, BELOW_BAR, BELOW_STEM = np.array([0.0, -80.0]), np.array([40.0, 20.0]), np.array([0.0, 110.0])


def find_push(touch: tuple[float, float], direction: tuple[float, float]) -> int:
    """The push whose pusher touches the block with its centre at `touch`, in the block's frame."""
    pushes = all_pushes()
    touches = pushes.start + RUN_UP * pushes.direction
    misses = np.abs(touches - touch).sum(axis=1) + np.abs(pushes.direction - direction).sum(axis=1)
    assert misses.min() < 1e-9
    return int(misses.argmin())


def place(env: PushTEnv, pusher: np.ndarray, centre: np.ndarray, angle: float) -> None:
    """Put the pusher, and the block's centre of mass, where they are wanted, at rest."""
    # gym-pusht turns the block about its centre of mass after it has placed it.
    start = [*pusher, *(centre - CENTRE_OF_MASS), angle]
    env._started().reset(options={"reset_to_state": start})


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0, -55), 10),  # above the crossbar
        ((63, -49), 5),  # beside its corner: 3 and 4 away
        ((-20, 40), 5),  # left of the stem
        ((0, 30), -15),  # in the middle of the stem
    ],
)
def test_clearance_is_the_distance_to_the_t(point: tuple[float, float], expected: float) -> None:
    assert clearance(np.array(point, float)) == pytest.approx(expected)


@pytest.mark.parametrize("point", [(16.0, -14.0), (0.0, 30.0), (-58.0, -20.0)])
def test_stepping_clear_leaves_the_wanted_clearance_even_in_the_inner_corner(
    point: tuple[float, float],
) -> None:
    assert clearance(step_clear(np.array(point), 18.0)) > 17.99


def test_no_push_starts_in_touch_with_the_block() -> None:
    assert clearance(all_pushes().start).min() > RADIUS + 2


def test_a_push_through_the_centre_of_mass_moves_the_block_with_the_pusher() -> None:
    push = find_push((0, -60), (0, 1))
    expected = np.column_stack([np.zeros_like(DISTANCES), DISTANCES])
    np.testing.assert_allclose(all_pushes().shift[push], expected, atol=1e-9)
    np.testing.assert_allclose(all_pushes().angle[push], 0, atol=1e-12)


def test_a_push_at_the_end_of_the_crossbar_turns_the_block_by_its_lever_arm() -> None:
    # A lever of 60 with an inertia of 3000: of each pixel 1 / (1 + 1.2) shifts, 1.2 / (1 + 1.2) / 60 turns.
    push = find_push((60, -60), (0, 1))
    assert DISTANCES[0] == 0.5
    assert all_pushes().shift[push, 0] == pytest.approx((0, 0.5 / 2.2), abs=1e-3)
    assert all_pushes().angle[push, 0] == pytest.approx(0.5 * 1.2 / 2.2 / 60, abs=1e-5)


def test_pushes_in_gym_pusht_end_as_the_table_says() -> None:
    env, pushes = PushTEnv(max_episode_steps=10**6, terminate_on_success=False), all_pushes()
    rng = np.random.default_rng(0)
    env.restart(seed=0)
    for _ in range(8):
        push, column = rng.integers(len(pushes.start)), rng.integers(4, len(DISTANCES) - 10)
        centre, angle, length = np.array([250.0, 260.0]), rng.uniform(-3, 3), RUN_UP + DISTANCES[column]
        start, direction = centre + turn(pushes.start[push], angle), turn(pushes.direction[push], angle)
        place(env, start, centre, angle)
        while (gone := (env.privileged_state()[PUSHER] - start) @ direction) < length - 0.1:
            env.advance(start + direction * min(gone + 30, length))
        block = env.privileged_state()[BLOCK]
        shift = turn(block[:2] + turn(CENTRE_OF_MASS, block[2]) - centre, -angle)
        tolerance = 0.3 + 0.02 * DISTANCES[column]
        np.testing.assert_allclose(shift, pushes.shift[push, column], atol=tolerance)
        np.testing.assert_allclose(block[2] - angle, pushes.angle[push, column], atol=tolerance / 55)


@pytest.mark.parametrize("error", [(0, 0, 0), (1.5, 0, 0), (-0.5, 1.5, 0), (0, 0, 0.03), (1, -1, -0.02)])
def test_the_uncovered_share_is_what_gym_pusht_does_not_count(error: tuple[float, float, float]) -> None:
    env = PushTEnv()
    env.restart(seed=0)
    outline, angle = 256 + turn(CENTRE_OF_MASS, np.pi / 4), np.pi / 4 - error[2]
    place(env, np.array([60.0, 60.0]), outline - turn(np.array(error[:2]), angle), angle)
    *_, info = env.advance(np.array([60, 60], np.float32))
    assert uncovered(np.array(error, float)) == pytest.approx(1 - info["coverage"], abs=1e-3)


def test_a_free_way_is_straight() -> None:
    ways = Ways(ABOVE, DETOUR, np.array([[30.0, -120.0]]))
    assert ways.lengths == pytest.approx(50)
    np.testing.assert_array_equal(ways.path(0), [(30, -120)])


def test_a_way_to_the_other_side_goes_over_corners_and_clears_the_block() -> None:
    ways = Ways(ABOVE, DETOUR, np.stack([BELOW_STEM, BELOW_BAR]))
    for target, end in enumerate((BELOW_STEM, BELOW_BAR)):
        path = np.stack([ABOVE, *ways.path(target)])
        np.testing.assert_array_equal(path[-1], end)
        assert len(path) >= 3
        assert ways.lengths[target] == pytest.approx(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        for a, b in pairwise(path):
            assert clearance(np.linspace(a, b, 200)).min() > RADIUS


def test_what_cannot_be_reached_is_infinitely_far() -> None:
    assert Ways(ABOVE, DETOUR, np.array([[0.0, 30.0]])).lengths == np.inf


def test_every_push_can_follow_every_other() -> None:
    lengths = ways_between_pushes()
    assert lengths.shape == (len(all_pushes().start),) * 2
    assert np.isfinite(lengths).all()
