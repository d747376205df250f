"""An SO-101's arm in degrees and per cent, as LeRobot's `so101_follower` gives and takes its numbers.

The arm's model is `assets/so101.xml`; `attach_arm` puts it into any scene. Inverse kinematics by damped least
squares (Wampler, 1986; Nakamura and Hanafusa, 1986): five joints cannot take the gripper to every pose, so
that its place counts and its direction yields. J joints of the arm, 5; metres.
"""

from pathlib import Path

import mujoco
import numpy as np

ASSETS = Path(__file__).parent / "assets"
ARM_XML = ASSETS / "so101.xml"

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
# Degrees, and of the gripper per cent: 0 closed, 100 open. The published ranges of the joints.
LOWEST = (-110.0, -100.0, -96.8, -95.0, -157.2, 0.0)
HIGHEST = (110.0, 100.0, 96.8, 95.0, 162.8, 100.0)
GRIPPER_CLOSED, GRIPPER_OPEN = -10.0, 100.0
"""The gripper's joint, in degrees."""

DAMPING = 0.01
METRES_PER_RADIAN = 0.03
"""How much a wrong direction of the gripper counts beside a wrong place."""
SETTLED = 1e-4
"""Radians by which no joint moves any more when the search ends."""


def joint_radians(numbers: np.ndarray) -> np.ndarray:
    """Turn degrees and the gripper's per cent, (..., 6), into the joints' radians."""
    degrees = np.array(numbers, np.float64)
    degrees[..., 5] = GRIPPER_CLOSED + degrees[..., 5] / 100 * (GRIPPER_OPEN - GRIPPER_CLOSED)
    return np.deg2rad(degrees)


def joint_numbers(radians: np.ndarray) -> np.ndarray:
    """Turn the joints' radians, (..., 6), into degrees and the gripper's per cent."""
    numbers = np.rad2deg(np.asarray(radians, np.float64))
    numbers[..., 5] = (numbers[..., 5] - GRIPPER_CLOSED) * 100 / (GRIPPER_OPEN - GRIPPER_CLOSED)
    return numbers


def attach_arm(
    scene: mujoco.MjSpec, *, prefix: str = "", place: tuple[float, float, float] = (0, 0, 0)
) -> None:
    """Put an arm into a scene that is not compiled yet.

    prefix: of all its names, so that two can stand in one scene; place: of its foot; it looks along +x.

    Raises:
        ValueError: a scene in radians: MuJoCo would read the arm's angles in the scene's unit.
    """
    if not scene.compiler.degree:
        raise ValueError("scene in radians: expected one in degrees, as the arm's file is")
    frame = scene.worldbody.add_frame(pos=place)
    scene.attach(mujoco.MjSpec.from_file(str(ARM_XML)), prefix=prefix, frame=frame)


class Kinematics:
    """Where the gripper is for given joints, and which joints bring it to a place. It simulates nothing.

    The gripper's x axis points along its fingers, its z axis from the fixed to the moving jaw.
    """

    def __init__(self) -> None:
        """Compile the arm alone, standing at the origin."""
        self._model = mujoco.MjModel.from_xml_path(str(ARM_XML))
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("pinch").id
        self._low, self._high = self._model.jnt_range[:5].T

    def pinch(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where what it grips is, (3,), and the gripper's rotation (3, 3), for joint numbers (6,)."""
        self._place(joint_radians(numbers)[:5])
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def joints(
        self, place: np.ndarray, rotation: np.ndarray, near: np.ndarray, *, iterations: int = 30
    ) -> np.ndarray:
        """Return joint numbers (6,) within their limits that bring the gripper to a place within reach.

        place: (3,) of what it grips; rotation: (3, 3), approached as far as five joints and the place allow;
        near: (6,) joint numbers from which the search starts, and whose gripper is kept.
        """
        angles = joint_radians(near)[:5]
        for _ in range(iterations):
            self._place(angles)
            error, jacobian = self._error(place, rotation)
            squared = jacobian.T @ jacobian + DAMPING**2 * np.eye(5)
            last, angles = angles, angles + np.linalg.solve(squared, jacobian.T @ error)
            angles = np.minimum(np.maximum(angles, self._low), self._high)
            if np.abs(angles - last).max() < SETTLED:
                break
        return np.append(np.rad2deg(angles), near[5])

    def _place(self, angles: np.ndarray) -> None:
        self._data.qpos[:5] = angles
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)

    def _error(self, place: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how far off place and direction are, (6,) in metres, and what the joints change, (6, J)."""
        present = self._data.site_xmat[self._site].reshape(3, 3)
        missing = rotation @ present.T
        turn = 0.5 * np.array(
            (missing[2, 1] - missing[1, 2], missing[0, 2] - missing[2, 0], missing[1, 0] - missing[0, 1])
        )
        jacobian = np.zeros((6, self._model.nv))
        mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
        jacobian[3:] *= METRES_PER_RADIAN
        error = np.concatenate([place - self._data.site_xpos[self._site], METRES_PER_RADIAN * turn])
        return error, jacobian[:, :5]
