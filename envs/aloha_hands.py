"""Two hands that grasp, as ALOHA's experts use them: what is where, where to grip, how to get there smoothly.

Metres and radians; a pose is a 4x4 matrix from a frame to the world; rows of two belong to the left and the
right arm.
"""

from dataclasses import dataclass

import mujoco
import numpy as np
from gym_aloha.constants import START_ARM_POSE

from envs.aloha import gripper_opening
from envs.aloha_arm import HIGHEST, LEFT, LOWEST, RIGHT, pose

ARMS = (LEFT, RIGHT)
HOME = np.array(START_ARM_POSE[:6], np.float64)
# A finger's position where both meet, and where along the gripper's x axis the fingertips hold.
FINGERS_MEET = 0.0224
TIP = 0.142
LOWEST_TIP = 0.016
"""Height of the point held, at which the fingertips stay clear of the table."""

# How far the hand stays behind the place to grip, per metre by which it is not lined up, and at most.
TOLERANCE, BACK_OFF, FARTHEST = 0.006, 4.0, 0.08
METRES_PER_RADIAN = 0.05
OPEN_GAP = 0.06

# Largest step of a joint's reference in radians, its growth per step, and its share of the way that is left.
FAST, CAREFUL, SLOW = 0.03, 0.02, 0.01
RAMP, SHARE = 0.003, 0.2
LARGEST_LEAD = 0.2
"""How far the reference may be ahead of an arm that is held up."""
GRIPPER_STEP = 0.1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a privileged state says.

    joints: (2, 6); gaps: (2,) between the fingers; grippers: poses of both grippers' links; objects: poses.
    """

    joints: np.ndarray
    gaps: np.ndarray
    grippers: tuple[np.ndarray, ...]
    objects: tuple[np.ndarray, ...]


def read_scene(state: np.ndarray) -> Scene:
    """Read an `AlohaEnv.privileged_state`: (45,) with one object, (58,) with two."""
    arms = state[:16].reshape(2, 8)
    count = (len(state) - 32) // 13
    return Scene(
        joints=arms[:, :6],
        gaps=arms[:, 6] - arms[:, 7] - 2 * FINGERS_MEET,
        grippers=tuple(arm.gripper_pose(row[:6]) for arm, row in zip(ARMS, arms, strict=True)),
        objects=tuple(_object_pose(row) for row in state[16 : 16 + 7 * count].reshape(count, 7)),
    )


def _object_pose(row: np.ndarray) -> np.ndarray:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, row[3:])
    return pose(row[:3], matrix.reshape(3, 3))


@dataclass(frozen=True, kw_only=True)
class Thing:
    """What can be gripped. width: between the fingers; half_length: along its x axis, 0 for a cube."""

    width: float
    half_length: float

    def is_between(self, place: np.ndarray, gripper: np.ndarray) -> bool:
        """Whether the thing at a pose is between the fingertips, open or closed."""
        tip = fingertips(gripper) - place[:3, 3]
        along = np.clip(tip @ place[:3, 0], -self.half_length, self.half_length)
        return bool(np.linalg.norm(tip - along * place[:3, 0]) < 0.03)

    def is_held(self, place: np.ndarray, gripper: np.ndarray, gap: float) -> bool:
        """Whether the fingers have closed on the thing at a pose."""
        return self.is_between(place, gripper) and abs(gap - self.width) < 0.003


def fingertips(gripper: np.ndarray) -> np.ndarray:
    """Return the point (3,) between the fingertips of a gripper's pose."""
    return gripper[:3, 3] + TIP * gripper[:3, 0]


def grip_at(point: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the gripper's pose with the fingertips at a point (3,) and a rotation (3, 3)."""
    return pose(point - TIP * matrix[:, 0], matrix)


def turn_between(one: np.ndarray, two: np.ndarray) -> float:
    """Return the angle between two rotations (3, 3)."""
    return float(np.arccos(np.clip((np.trace(one.T @ two) - 1) / 2, -1.0, 1.0)))


def misfit(gripper: np.ndarray, goal: np.ndarray) -> float:
    """Return how far a gripper is from a pose, in metres; a radian counts as METRES_PER_RADIAN."""
    offset = np.linalg.norm(fingertips(gripper) - fingertips(goal))
    return float(offset + METRES_PER_RADIAN * turn_between(gripper[:3, :3], goal[:3, :3]))


def funnel(gripper: np.ndarray, goal: np.ndarray, gap: float) -> np.ndarray:
    """Return the pose to steer for on the way to a grip: behind it until the hand is lined up and open."""
    ahead = goal[:3, 0]
    offset = fingertips(goal) - fingertips(gripper)
    lateral = np.linalg.norm(offset - (offset @ ahead) * ahead)
    off = lateral + METRES_PER_RADIAN * turn_between(gripper[:3, :3], goal[:3, :3]) + max(0.0, OPEN_GAP - gap)
    behind = goal.copy()
    behind[:3, 3] -= ahead * np.clip(BACK_OFF * (off - TOLERANCE), 0.0, FARTHEST)
    return behind


def carry(thing: np.ndarray, goal: np.ndarray, gripper: np.ndarray) -> np.ndarray:
    """Return the gripper's pose that brings a thing it holds from where it is to a goal."""
    return goal @ np.linalg.solve(thing, gripper)


def turn_towards(axis: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) that brings one unit vector (3,) to another."""
    cross, cosine = np.cross(axis, goal), axis @ goal
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    return np.eye(3) + skew + skew @ skew / max(1 + cosine, 1e-6)


def yaw_of(axis: np.ndarray, turn: float) -> float:
    """Return an axis's (3,) direction on the table, modulo `turn`: from -turn / 2 to turn / 2."""
    return float((np.arctan2(axis[1], axis[0]) + turn / 2) % turn - turn / 2)


@dataclass(frozen=True, kw_only=True)
class HandGoal:
    """Where a hand shall go: joints (6,), opening of the gripper 0 to 1, and the largest step in radians."""

    joints: np.ndarray
    opening: float
    speed: float = FAST


class Hand:
    """Turns goals into smooth joint targets. The reference it remembers never runs far ahead of the arm."""

    def __init__(self) -> None:
        """Begin at rest in the start pose."""
        self._reference = HOME.copy()
        self._opening = float(gripper_opening(START_ARM_POSE[6]))
        self._step = 0.0

    def follow(self, goal: HandGoal, joints: np.ndarray) -> np.ndarray:
        """Return the next targets, (7,), towards a goal, for an arm that is at `joints`, (6,)."""
        reference = joints + np.clip(self._reference - joints, -LARGEST_LEAD, LARGEST_LEAD)
        way = goal.joints - reference
        longest = np.abs(way).max()
        self._step = min(self._step + RAMP, goal.speed, SHARE * longest)
        self._reference = reference + way * (self._step / max(longest, 1e-9))
        self._opening += np.clip(goal.opening - self._opening, -GRIPPER_STEP, GRIPPER_STEP)
        return np.append(np.clip(self._reference, LOWEST, HIGHEST), self._opening)
