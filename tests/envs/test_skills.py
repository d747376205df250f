"""What a gripper does with things: how exact it has to be."""

import numpy as np
import pytest

from envs import skills
from envs.so101 import SO101Env
from envs.so101_expert import SO101Expert, make_expert
from envs.tasks.planning import FIRST, SIZE
from envs.tasks.task import Move, Sight

TASK = "planning-1"
STEPS = 200


class Inexact:
    """An expert that goes for a cube which it takes to be elsewhere, and lifts it."""

    def __init__(self, seed: int, error: tuple[float, float, float]) -> None:
        self.env = SO101Env(TASK)
        self.env.restart(seed=seed)
        self.expert: SO101Expert = make_expert(TASK)
        self.expert._task.next_move = self._next_move
        self._error, self._grips = np.array(error), 0

    def _next_move(self, sight: Sight) -> Move:
        angle = skills.jaw_angle(0.0, sight.joints[0])
        along, across, up = self._error
        jaws = np.array((np.cos(angle), np.sin(angle), 0.0))
        fingers = np.array((-np.sin(angle), np.cos(angle), 0.0))
        pose = np.concatenate([sight.place(FIRST) + along * jaws + across * fingers, sight.poses[FIRST][3:]])
        pose[2] += up
        move = skills.pick(sight.with_poses({FIRST: pose}), FIRST, "the cube")
        self._grips += move.what.startswith("grip")
        if self._grips < 30:
            return move
        return Move(what="lift it", place=skills.above(sight.pinch, 0.02), opening=skills.CLOSED)

    def is_lifted(self) -> bool:
        for _ in range(STEPS):
            self.env.advance(self.expert.act(self.env.privileged_state()))
        return bool(self.env._running().position(FIRST)[2] > 2 * SIZE)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "error", [(0.0, 0.0, 0.0), (0.012, 0.0, 0.0), (-0.012, 0.0, 0.0), (0.0, 0.006, 0.0), (0.0, 0.0, 0.008)]
)
def test_a_cube_is_lifted_by_a_gripper_that_is_not_exact(error: tuple, seed: int) -> None:
    assert Inexact(seed, error).is_lifted()


def test_a_cube_out_of_reach_is_not_lifted() -> None:
    assert not Inexact(0, (0.0, 0.03, 0.0)).is_lifted()


def test_jaws_close_once_the_arm_has_come_to_rest() -> None:
    env, expert = SO101Env(TASK), make_expert(TASK)
    env.restart(seed=0)
    expert._task.next_move = lambda sight: skills.pick(sight, FIRST, "the cube")
    for _ in range(STEPS):
        state = env.privileged_state()
        if expert.stage(state) == "grip the cube":
            break
        assert expert._sight(state).joints[5] > skills.HOLDING
        env.advance(expert.act(state))
    sight = expert._sight(env.privileged_state())
    assert np.abs(sight.rates[:5]).max() < skills.AT_REST
