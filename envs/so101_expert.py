"""The scripted expert of the SO-101's tasks: it does what the task says comes next, at an arm's pace.

It sees the simulator's state. Metres and degrees.
"""

import zlib

import numpy as np

from envs.skills import jaw_angle
from envs.so101_arm import HIGHEST, LOWEST, Kinematics
from envs.tabletop import HOME
from envs.tasks import make_task
from envs.tasks.task import Sight, Task

SHARE, FASTEST, RAMP = 0.2, 3.0, 0.5
"""The part of what is left that one step takes, at most how many degrees, and by how many more than the step
before."""
LEAD = 8.0
"""Degrees that targets may run ahead of an arm that is held back."""


class SO101Expert:
    """Follows a task's moves. It remembers the last target and how the episode began; all else is state."""

    def __init__(self, task: Task, *, is_blind: bool = False) -> None:
        """Compile the arm that it computes with. is_blind: it lacks the information the task is about."""
        self._arm = Kinematics()
        self._task, self._is_blind = task, is_blind
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._target: np.ndarray | None = None
        self._step = 0.0
        self._guess: int | None = None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (6,) float32 within the action space, for a `SO101Env.privileged_state`."""
        sight = self._sight(state)
        move, numbers = self._task.next_move(sight), sight.joints
        rotation = grip(jaw_angle(move.facing, numbers[0]))
        goal = self._arm.joints(move.place, rotation, near=np.array(HOME))
        goal[5] = move.opening
        target = numbers if self._target is None else self._target
        target = numbers + np.clip(target - numbers, -LEAD, LEAD)
        way = goal - target
        longest = max(np.abs(way).max(), 1e-9)
        self._step = min(self._step + RAMP, FASTEST, SHARE * longest)
        self._target = target = np.clip(target + way * (self._step / longest), LOWEST, HIGHEST)
        return target.astype(np.float32)

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English."""
        return self._task.next_move(self._sight(state)).what

    def _sight(self, state: np.ndarray) -> Sight:
        sight = self._task.sight(state, self._arm)
        if not self._is_blind:
            return sight
        if self._guess is None:
            self._guess = zlib.crc32(state.tobytes())
        return self._task.blind(sight, np.random.default_rng(self._guess))


def grip(yaw: float) -> np.ndarray:
    """Return the rotation (3, 3) of a gripper that reaches down, turned by an angle about the vertical."""
    return np.array(
        ((0.0, -np.sin(yaw), np.cos(yaw)), (0.0, np.cos(yaw), np.sin(yaw)), (-1.0, 0.0, 0.0)),
    )


def make_expert(task: str, *, is_blind: bool = False) -> SO101Expert:
    """Return the scripted expert of a task of `envs.tasks.TASKS`.

    Raises:
        ValueError: another name.
    """
    return SO101Expert(make_task(task), is_blind=is_blind)
