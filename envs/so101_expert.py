"""The scripted expert of the SO-101's task: it brings the open jaws around the cube, from above.

It sees the simulator's state. Metres and degrees.
"""

import mujoco
import numpy as np

from envs.so101 import ARM, CUBE, HOME, TASKS
from envs.so101_arm import HIGHEST, LOWEST, Kinematics, joint_numbers

OPENING = 55.0
"""Of the gripper, per cent: the cube fits between the jaws with room on both sides."""
INSIDE = 0.006
"""How far above the cube's middle the jaws stop, so that they keep off the table."""
OVER, TOLERANCE, BACK_OFF = 0.05, 0.006, 4.0
"""The gripper stays this far above until it is over the cube: BACK_OFF for every metre beyond TOLERANCE."""
FASTEST, RAMP, SHARE = 3.0, 0.5, 0.2
"""Degrees per step, how much faster from one step to the next, and the part left that one takes."""
LARGEST_LEAD = 8.0
"""How far targets run ahead of an arm that is held back."""


class SO101Expert:
    """Goes over the cube and down. It remembers the last target; all else follows from the state."""

    stages = ("move the gripper over the cube", "lower the gripper around the cube")

    def __init__(self) -> None:
        """Compile the arm that it computes with."""
        self._arm = Kinematics()
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._target: np.ndarray | None = None
        self._step = 0.0

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (6,) float32 within the action space, for a `SO101Env.privileged_state`."""
        numbers = joint_numbers(state[ARM])
        place = state[CUBE][:3].copy()
        place[2] += INSIDE + np.clip(BACK_OFF * self._beside(state), 0.0, OVER)
        goal = self._arm.joints(place, _grip(state[CUBE], numbers[0]), near=np.array(HOME))
        goal[5] = OPENING
        target = numbers if self._target is None else self._target
        target = numbers + np.clip(target - numbers, -LARGEST_LEAD, LARGEST_LEAD)
        way = goal - target
        longest = max(np.abs(way).max(), 1e-9)
        self._step = min(self._step + RAMP, FASTEST, SHARE * longest)
        self._target = target = np.clip(target + way * (self._step / longest), LOWEST, HIGHEST)
        return target.astype(np.float32)

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English."""
        return self.stages[int(self._beside(state) <= 0.0)]

    def _beside(self, state: np.ndarray) -> float:
        """Return how far, beyond TOLERANCE, the gripper is from the line that stands on the cube."""
        pinch, _ = self._arm.pinch(joint_numbers(state[ARM]))
        return float(np.linalg.norm((pinch - state[CUBE][:3])[:2])) - TOLERANCE


def _grip(cube: np.ndarray, pan: float) -> np.ndarray:
    """Return the rotation (3, 3) of a gripper that reaches down and whose jaws face two sides of the cube.

    cube: (7,) place and quaternion; pan: of the arm, degrees. The one of four that turns the wrist least.
    """
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, cube[3:])
    side = np.arctan2(matrix[3], matrix[0])
    outwards = -np.deg2rad(pan)
    yaw = outwards + (side - outwards + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return np.array(
        ((0.0, -np.sin(yaw), np.cos(yaw)), (0.0, np.cos(yaw), np.sin(yaw)), (-1.0, 0.0, 0.0)),
    )


def make_expert(task: str) -> SO101Expert:
    """Return the scripted expert of a task of TASKS.

    Raises:
        ValueError: another name.
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r}: expected one of {', '.join(TASKS)}")
    return SO101Expert()
