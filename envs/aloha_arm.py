"""Kinematics of ALOHA's ViperX arm in closed form: joints to the gripper's pose, and back.

The last three axes meet in one point, the wrist, so that position and rotation separate (Pieper, 1968). A
pose is a 4x4 matrix from a frame to the world; the gripper's x axis points along its fingers, its y axis from
one finger to the other. Metres and radians.
"""

from dataclasses import dataclass

import numpy as np

from envs import aloha

# From the MJCF of gym-aloha: heights and lengths between the joints.
SHOULDER_HEIGHT = 0.12705
UPPER_ARM = (0.05955, 0.3)
FOREARM = 0.3
WRIST_TO_GRIPPER = 0.069744
LOWEST, HIGHEST = np.array(aloha.LOWEST[:6]), np.array(aloha.HIGHEST[:6])

_UPPER_ARM_LENGTH, _UPPER_ARM_TILT = np.hypot(*UPPER_ARM), np.arctan2(*UPPER_ARM)


def rotation(axis: str, angle: float) -> np.ndarray:
    """Return the matrix (3, 3) of a rotation about "x", "y" or "z"."""
    one, two = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[two, one] = np.sin(angle)
    matrix[one, two] = -matrix[two, one]
    return matrix


def pose(position: np.ndarray | tuple[float, float, float], matrix: np.ndarray) -> np.ndarray:
    """Return the pose (4, 4) of a frame at a position (3,) with a rotation (3, 3)."""
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = matrix, position
    return result


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One arm. base: pose of its foot, (4, 4)."""

    base: np.ndarray

    def gripper_pose(self, joints: np.ndarray) -> np.ndarray:
        """Return the pose of the gripper's link, (4, 4), for six joint angles."""
        waist, shoulder, elbow, roll, angle, rotate = joints
        arm = rotation("z", waist) @ rotation("y", shoulder)
        place = np.array((0.0, 0.0, SHOULDER_HEIGHT)) + arm @ (UPPER_ARM[0], 0.0, UPPER_ARM[1])
        arm = arm @ rotation("y", elbow)
        place += arm @ (FOREARM, 0.0, 0.0)
        arm = arm @ rotation("x", roll) @ rotation("y", angle) @ rotation("x", rotate)
        place += arm @ (WRIST_TO_GRIPPER, 0.0, 0.0)
        return self.base @ pose(place, arm)

    def joints(self, gripper: np.ndarray, near: np.ndarray) -> np.ndarray:
        """Return six joint angles, within their limits, that bring the gripper's link to a pose (4, 4).

        near: (6,), joint angles of which the nearest of the two ways to turn the wrist is taken. The elbow
        always points up. A pose out of reach is approached as far as the arm goes.
        """
        target = np.linalg.solve(self.base, gripper)
        matrix = target[:3, :3]
        wrist = target[:3, 3] - WRIST_TO_GRIPPER * matrix[:, 0]
        waist = np.arctan2(wrist[1], wrist[0])
        shoulder, elbow = _reach(np.hypot(wrist[0], wrist[1]), wrist[2] - SHOULDER_HEIGHT)
        forearm = rotation("z", waist) @ rotation("y", shoulder + elbow)
        turns = _turn(forearm.T @ matrix, near[3:])
        return np.clip((waist, shoulder, elbow, *turns), LOWEST, HIGHEST)


def _reach(forward: float, up: float) -> tuple[float, float]:
    """Return shoulder and elbow angles that bring the wrist to a place in the arm's plane."""
    longest = _UPPER_ARM_LENGTH + FOREARM
    distance = np.clip(np.hypot(forward, up), 1e-6, longest)
    towards = np.arctan2(forward, up)
    cosine = (_UPPER_ARM_LENGTH**2 + distance**2 - FOREARM**2) / (2 * _UPPER_ARM_LENGTH * distance)
    lean = towards - np.arccos(np.clip(cosine, -1.0, 1.0))  # of the upper arm, from the vertical
    wrist = distance * np.array((np.sin(towards), np.cos(towards)))
    along = wrist - _UPPER_ARM_LENGTH * np.array((np.sin(lean), np.cos(lean)))
    shoulder = lean - _UPPER_ARM_TILT
    return shoulder, np.arctan2(-along[1], along[0]) - shoulder


def _turn(matrix: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return forearm roll, wrist angle and wrist rotation, (3,), whose product is a rotation (3, 3)."""
    angle = np.arccos(np.clip(matrix[0, 0], -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # both rolls turn about one axis: keep the first
        total = np.arctan2(matrix[2, 1], matrix[1, 1])
        return np.array((near[0], angle, _nearest(total - near[0], near[2])))
    ways = []
    for sign in (1.0, -1.0):
        roll = np.arctan2(sign * matrix[1, 0], -sign * matrix[2, 0])
        rotate = np.arctan2(sign * matrix[0, 1], sign * matrix[0, 2])
        ways.append((_nearest(roll, near[0]), sign * angle, _nearest(rotate, near[2])))
    return min(np.array(ways), key=lambda way: np.abs(way - near).max())


def _nearest(angle: float, near: float) -> float:
    """Return the same angle, a turn more or less, next to another, within the joint's limits."""
    turned = near + (angle - near + np.pi) % (2 * np.pi) - np.pi
    return turned - 2 * np.pi * np.sign(turned) if abs(turned) > HIGHEST[3] else turned


def _foot(x: float, yaw: float) -> np.ndarray:
    return pose((x, 0.5, 0.0), rotation("z", yaw))


LEFT = Arm(base=_foot(-0.469, 0.0))
RIGHT = Arm(base=_foot(0.469, 3.1416))
