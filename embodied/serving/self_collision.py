"""Whether a robot's parts touch each other, asked of MuJoCo: kinematics and collision only, no physics.

A joints, in the units of the robot's profile.
"""

import mujoco
import numpy as np

from embodied.errors import UserError
from embodied.serving.profiles import RobotProfile
from embodied.serving.specification import JOINT_SUFFIX

CLEARANCE = 0.004
"""Metres that parts of the robot have to stay apart."""

TO_MODEL = {"deg": np.pi / 180, "rad": 1.0, "m": 1.0}
SHARES = {"percent": 100.0, "share": 1.0}
"""Of the way from one end of the model's joint to the other."""


class MujocoCollisions:
    """Contacts between bodies of the tree that holds the profile's joints, not with the world or objects.

    What the model itself lets touch (neighbouring bodies, excluded pairs) may touch.
    """

    def __init__(self, profile: RobotProfile, *, clearance: float = CLEARANCE) -> None:
        """Load the profile's MJCF. UserError if it cannot be read, or a joint is missing or has no range."""
        path = profile.self_collision
        assert path is not None
        try:
            self._model = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            first_line = str(error).strip().split("\n")[0]
            raise UserError(f"{path}: expected an MJCF model of {profile.name}: {first_line}") from error
        model, self._data = self._model, mujoco.MjData(self._model)
        joints = [self._joint(profile, name) for name in profile.names]
        self._addresses = model.jnt_qposadr[joints]
        low, high = model.jnt_range[joints].T
        self._scale, self._offset = np.ones(len(joints)), np.zeros(len(joints))
        for place, unit in enumerate(profile.units):
            if unit in SHARES:
                self._scale[place] = (high[place] - low[place]) / SHARES[unit]
                self._offset[place] = low[place]
            else:
                self._scale[place] = TO_MODEL[unit]
        self._root = model.body_rootid[model.jnt_bodyid[joints[0]]]
        # Contacts are then found this far ahead of a touch; a pair's margin is the larger of its two.
        model.geom_margin[:] = self._clearance = clearance

    def _joint(self, profile: RobotProfile, name: str) -> int:
        known = [self._model.joint(number).name for number in range(self._model.njnt)]
        joint = name.removesuffix(JOINT_SUFFIX)
        if joint not in known:
            raise UserError(f"{profile.self_collision}: has no joint {joint}: expected it, of {profile.name}")
        return known.index(joint)

    def penetration(self, positions: np.ndarray) -> float:
        """Metres by which parts at `positions` (A,) are nearer than the clearance, the worst pair's."""
        model, data = self._model, self._data
        data.qpos[self._addresses] = positions * self._scale + self._offset
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        roots = model.body_rootid[model.geom_bodyid[data.contact.geom]]
        ours = (roots == self._root).all(axis=1)
        return float(np.max(self._clearance - data.contact.dist[ours], initial=0.0))
