"""The table with an SO-101-sized arm and a task's things on it, simulated; what tasks read and change.

The arm is `assets/so101.xml`, the table `assets/tabletop.xml`. A control step lasts 1/30 s, as LeRobot drives
the arm. n things, of which m are movable.
"""

from collections.abc import Callable, Sequence

import mujoco
import numpy as np

from envs import physics
from envs.rendering import FreeView, ModelView, Views
from envs.so101_arm import ASSETS, JOINTS, attach_arm, joint_numbers, joint_radians

# The arm stands at the origin and works along +x. `front` faces it, `side` looks along +y, `top` down.
FREE_VIEWS = {
    "front": FreeView(lookat=(0.17, 0.0, 0.06), distance=0.58, azimuth=-160.0, elevation=-35.0),
    "side": FreeView(lookat=(0.17, 0.0, 0.06), distance=0.58, azimuth=110.0, elevation=-30.0),
    "top": FreeView(lookat=(0.19, 0.0, 0.0), distance=0.62, azimuth=0.0, elevation=-89.0),
}
GOAL_VIEW = "goal"
VIEWS: Views = {
    **{name: ModelView(name=name) for name in (*FREE_VIEWS, "wrist")},
    GOAL_VIEW: ModelView(name="front"),
}
"""All are cameras of the scene, so that an episode can shift one; GOAL_VIEW shows another time."""

FPS = 30
PHYSICS_STEPS = 20
HOME = (0.0, -35.0, 45.0, 75.0, 0.0, 50.0)
"""Where the arm starts, but for START_SPREAD: over the table, the gripper pointing down."""
START_SPREAD = (10.0, 5.0, 5.0, 5.0, 10.0, 10.0)
LOW, HIGH = (0.18, -0.11), (0.28, 0.11)
"""The part of the table within easy reach of a gripper that points down: x and y in metres."""
HIDDEN = -2.0
"""Height of what is out of sight: under the floor."""

CHANGEABLE = (
    "geom_rgba",
    "geom_matid",
    "geom_contype",
    "geom_conaffinity",
    "geom_friction",
    "body_mass",
    "body_inertia",
    "dof_damping",
    "dof_frictionloss",
    "light_diffuse",
    "light_dir",
    "cam_pos",
    "cam_quat",
)
"""What of the model an episode may change; a reset sets it back."""


def camera_pose(view: FreeView) -> tuple[np.ndarray, np.ndarray]:
    """Return where a camera stands, (3,) metres, and its rotation (3, 3): right, up and backwards."""
    azimuth, elevation = np.deg2rad((view.azimuth, view.elevation))
    level = np.array((np.cos(azimuth), np.sin(azimuth), 0.0))
    forward = np.cos(elevation) * level + np.array((0.0, 0.0, np.sin(elevation)))
    right = np.array((level[1], -level[0], 0.0))
    return np.array(view.lookat) - view.distance * forward, np.stack(
        [right, np.cross(right, forward), -forward], axis=1
    )


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion (4,) of a rotation (3, 3)."""
    found = np.empty(4)
    mujoco.mju_mat2Quat(found, rotation.ravel())
    return found


def scatter(
    generator: np.random.Generator,
    count: int,
    apart: float,
    low: tuple[float, float] = LOW,
    high: tuple[float, float] = HIGH,
) -> np.ndarray:
    """Return places, (count, 2), x and y in metres, each at least so far from every other."""
    while True:
        places = generator.uniform(low, high, (count, 2))
        ways = np.linalg.norm(places[:, None] - places[None], axis=-1)
        if np.all(ways[~np.eye(count, dtype=bool)] >= apart):
            return places


class World:
    """Arm and things, stepped; after every change, places are those of the present state.

    model, data: MuJoCo's; names: of the things that the privileged state holds, in its order.
    """

    def __init__(self, build: Callable[[mujoco.MjSpec], None], names: Sequence[str]) -> None:
        """build: puts the task's things into the scene, before the arm."""
        scene = mujoco.MjSpec.from_file(str(ASSETS / "tabletop.xml"))
        scene.option.timestep = 1.0 / (FPS * PHYSICS_STEPS)
        for name, view in FREE_VIEWS.items():
            place, rotation = camera_pose(view)
            scene.worldbody.add_camera(name=name, pos=place, quat=quaternion(rotation))
        build(scene)
        attach_arm(scene)
        self.model = scene.compile()
        self.data = mujoco.MjData(self.model)
        self.names = tuple(names)
        arm = [self.model.joint(name).id for name in JOINTS]
        self._arm, self._arm_rates = self.model.jnt_qposadr[arm], self.model.jnt_dofadr[arm]
        self._free = [name for name in self.names if self.is_movable(name)]
        self._original = [getattr(self.model, name).copy() for name in CHANGEABLE]

    def reset(self, generator: np.random.Generator) -> None:
        """Put the arm where the generator says, and set the model back; things are for the task to place."""
        mujoco.mj_resetData(self.model, self.data)
        self._restore_model(self._original)
        joints = joint_radians(HOME + generator.uniform(-1.0, 1.0, 6) * START_SPREAD)
        self.data.qpos[self._arm] = joints
        self.data.ctrl[:] = joints

    def step(self, action: np.ndarray) -> None:
        """Simulate one control step towards joint targets (6,) in degrees and per cent."""
        self.data.ctrl[:] = joint_radians(action)
        mujoco.mj_step(self.model, self.data, PHYSICS_STEPS)
        self.refresh()

    def refresh(self) -> None:
        """Bring what is seen up to date with the state."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def rest(self) -> None:
        """Put the arm to HOME at once."""
        self.data.qpos[self._arm] = joint_radians(np.array(HOME))

    def is_movable(self, name: str) -> bool:
        """Whether a thing has a free joint."""
        body = self.model.body(name)
        return bool(body.jntnum[0]) and self.model.jnt_type[body.jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE

    def place(self, name: str, position: Sequence[float] | np.ndarray, yaw: float = 0.0) -> None:
        """Put a thing, movable or fixed, somewhere at rest. position: (3,) metres; yaw: radians."""
        pose = (*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        body = self.model.body(name)
        if body.mocapid[0] >= 0:
            self.data.mocap_pos[body.mocapid[0]], self.data.mocap_quat[body.mocapid[0]] = pose[:3], pose[3:]
        else:
            joint = body.jntadr[0]
            start, rate = self.model.jnt_qposadr[joint], self.model.jnt_dofadr[joint]
            self.data.qpos[start : start + 7] = pose
            self.data.qvel[rate : rate + 6] = 0.0
        self.refresh()

    def hide(self, name: str) -> None:
        """Put a fixed thing out of sight. ValueError for a movable one: it would fall for ever."""
        if self.is_movable(name):
            raise ValueError(f"thing {name!r}: expected a fixed one")
        self.place(name, (0.0, 0.0, HIDDEN))

    def paint(self, name: str, color: Sequence[float]) -> None:
        """Give all of a thing one colour; red, green and blue from 0 to 1."""
        self.model.geom_rgba[self.model.geom_bodyid == self.model.body(name).id, :3] = color

    def move_camera(self, name: str, view: FreeView) -> None:
        """Let a camera of FREE_VIEWS look on from elsewhere."""
        place, rotation = camera_pose(view)
        camera = self.model.camera(name).id
        self.model.cam_pos[camera], self.model.cam_quat[camera] = place, quaternion(rotation)

    def make_solid(self, name: str, is_solid: bool) -> None:
        """Let a thing touch others, or pass through them."""
        geoms = self.model.geom_bodyid == self.model.body(name).id
        self.model.geom_contype[geoms] = self.model.geom_conaffinity[geoms] = int(is_solid)

    def position(self, name: str) -> np.ndarray:
        """Return where a thing's middle is, (3,) metres."""
        return self.data.body(name).xpos.copy()

    def pinch(self) -> np.ndarray:
        """Return where the middle of what the gripper grips would be, (3,) metres."""
        return self.data.site("pinch").xpos.copy()

    def numbers(self) -> np.ndarray:
        """Return the joints in degrees and the gripper in per cent, (6,)."""
        return joint_numbers(self.data.qpos[self._arm])

    def poses(self) -> np.ndarray:
        """Return the arm's joints in radians, and each thing's place and unit quaternion: (6 + 7 n,)."""
        bodies = [self.data.body(name) for name in self.names]
        return np.concatenate(
            [self.data.qpos[self._arm], *(part for b in bodies for part in (b.xpos, b.xquat))]
        )

    def rates(self) -> np.ndarray:
        """Return the rates of the arm's joints and of the movable things: (6 + 6 m,)."""
        return np.concatenate(
            [self.data.qvel[self._arm_rates], *(self.data.joint(n).qvel for n in self._free)]
        )

    def displace(self, name: str, generator: np.random.Generator) -> None:
        """Move a thing at once to another place within reach, at the height it has."""
        if self.is_movable(name):
            joint = self.model.body(name).jntadr[0]
            physics.displace(self.model, self.data, joint, generator, LOW, HIGH)
        else:
            here = there = self.position(name)
            while np.linalg.norm(there[:2] - here[:2]) < physics.DISPLACEMENT:
                there = np.append(generator.uniform(LOW, HIGH), here[2])
            self.place(name, there)
        self.refresh()

    def repaint(self, name: str, generator: np.random.Generator) -> None:
        """Give a thing another colour."""
        physics.repaint(self.model, self.model.body(name).id, generator)

    def save(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the state of the physics, and what the model has changed to."""
        return physics.save(self.model, self.data), [getattr(self.model, name).copy() for name in CHANGEABLE]

    def load(self, saved: tuple[np.ndarray, list[np.ndarray]]) -> None:
        """Go back to what `save` returned."""
        state, parts = saved
        physics.load(self.model, self.data, state)
        self._restore_model(parts)
        self.refresh()

    def _restore_model(self, parts: list[np.ndarray]) -> None:
        for name, value in zip(CHANGEABLE, parts, strict=True):
            getattr(self.model, name)[:] = value
