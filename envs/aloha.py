"""ALOHA's two simulated tasks: two ViperX arms of six joints and a gripper each, around a table.

The scenes, rewards and ranges are those of gym-aloha (Apache-2.0; ALOHA and ACT, arXiv 2304.13705), stepped
with MuJoCo itself: the stock environment draws three pictures of 480x640 pixels at every step. A control step
lasts 20 ms (50 Hz). H, W picture size; Q, V sizes of the simulator's position and velocity.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gym_aloha
import gymnasium as gym
import mujoco
import numpy as np
from gym_aloha.constants import (
    PUPPET_GRIPPER_POSITION_CLOSE,
    PUPPET_GRIPPER_POSITION_OPEN,
    START_ARM_POSE,
)

from envs import physics, rendering
from envs.rendering import FreeView, ModelView, Views
from envs.scene_env import SceneEnv
from envs.simulated import Settings, Snapshot, check_owner

TASKS = ("transfer-cube", "insertion")
INSTRUCTIONS = {
    "transfer-cube": "pick up the red cube with the right arm and hand it over to the left arm",
    "insertion": "pick up the red peg and the blue socket and insert the peg into the socket",
}

# The arms stand at x = -0.469 and x = 0.469, y = 0.5, and face each other. The first seven views are the
# model's own; the last three are nearer, so that small pictures show the objects: `front` looks along +y,
# `back` along -y and `close_top` straight down.
VIEWS: Views = {
    "top": ModelView(name="top"),
    "angle": ModelView(name="angle"),
    "front_close": ModelView(name="front_close"),
    "left_pillar": ModelView(name="left_pillar"),
    "right_pillar": ModelView(name="right_pillar"),
    "left_wrist": ModelView(name="left_wrist"),
    "right_wrist": ModelView(name="right_wrist"),
    "front": FreeView(lookat=(0.0, 0.5, 0.14), distance=0.85, azimuth=90.0, elevation=-35.0),
    "back": FreeView(lookat=(0.0, 0.5, 0.14), distance=0.85, azimuth=-90.0, elevation=-35.0),
    "close_top": FreeView(lookat=(0.0, 0.5, 0.0), distance=0.8, azimuth=90.0, elevation=-89.0),
}

JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
# What the actuators accept, in radians. A gripper's number is 0 closed and 1 open.
LOWEST = (-3.14158, -1.85005, -1.76278, -3.14158, -1.8675, -3.14158, 0.0)
HIGHEST = (3.14158, 1.25664, 1.6057, 3.14158, 2.23402, 3.14158, 1.0)
# As in gym-aloha: under violent actions the simulated joints leave their limits by several radians.
LARGEST_NUMBER = 1000.0

PHYSICS_STEPS = 10
SUCCESS = 4

Contacts = set[tuple[str, str]]
"""Names of the pairs of geoms that touch, each pair in both orders."""

_MODELS = {"transfer-cube": "bimanual_viperx_transfer_cube.xml", "insertion": "bimanual_viperx_insertion.xml"}
# Ranges of the objects' positions in metres, in the order of the simulator's state.
_START_RANGES = {
    "transfer-cube": [((0.0, 0.4, 0.05), (0.2, 0.6, 0.05))],
    "insertion": [((0.1, 0.4, 0.05), (0.2, 0.6, 0.05)), ((-0.2, 0.4, 0.05), (-0.1, 0.6, 0.05))],
}
_DIVERGENCES = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
OBJECTS = {"transfer-cube": {"cube": "box"}, "insertion": {"peg": "peg", "socket": "socket"}}
"""Bodies of the model, by the names that `landmarks` gives them."""

ROBOT_POSITIONS = 16
TABLE_LOW, TABLE_HIGH = (-0.2, 0.4), (0.2, 0.6)
"""Where a displaced object may go: where objects start."""

_UPRIGHT = (1.0, 0.0, 0.0, 0.0)
_LEFT_FINGER = "vx300s_left/10_left_gripper_finger"
_RIGHT_FINGER = "vx300s_right/10_right_gripper_finger"
_SOCKET = ("socket-1", "socket-2", "socket-3", "socket-4")


def check_views(names: tuple[str, ...]) -> None:
    """Raise ValueError, naming the known views, unless `names` are one or more distinct names of VIEWS."""
    rendering.check_views(names, VIEWS)


def load_model(task: str) -> mujoco.MjModel:
    """Compile gym-aloha's scene of a task of TASKS."""
    return mujoco.MjModel.from_xml_path(str(Path(gym_aloha.__file__).parent / "assets" / _MODELS[task]))


def gripper_opening(finger: np.ndarray | float) -> np.ndarray | float:
    """Turn a left finger's position in metres into the gripper's number, 0 closed to 1 open."""
    return (finger - PUPPET_GRIPPER_POSITION_CLOSE) / (
        PUPPET_GRIPPER_POSITION_OPEN - PUPPET_GRIPPER_POSITION_CLOSE
    )


def joint_numbers(position: np.ndarray) -> np.ndarray:
    """Return the 14 numbers of `agent_pos` from the simulator's positions, (Q,) -> (14,)."""
    numbers = np.delete(position[:16], (7, 15))
    numbers[[6, 13]] = gripper_opening(numbers[[6, 13]])
    return numbers


def actuator_targets(action: np.ndarray) -> np.ndarray:
    """Return the targets of the 16 actuators, four of them fingers, for an action (14,)."""
    arms = action.reshape(2, 7)
    fingers = (
        arms[:, 6:] * (PUPPET_GRIPPER_POSITION_OPEN - PUPPET_GRIPPER_POSITION_CLOSE)
        + PUPPET_GRIPPER_POSITION_CLOSE
    )
    return np.concatenate([arms[:, :6], fingers, -fingers], axis=1).ravel()


def transfer_cube_reward(contacts: Contacts) -> int:
    """Reward the highest of: 1 right finger at the cube, 2 lifts it; 3 left finger at it, 4 off the table."""
    on_table = ("red_box", "table") in contacts
    if ("red_box", _LEFT_FINGER) in contacts:
        return 3 if on_table else SUCCESS
    if ("red_box", _RIGHT_FINGER) in contacts:
        return 1 if on_table else 2
    return 0


def insertion_reward(contacts: Contacts) -> int:
    """Reward the highest of: 1 both objects touched, 2 both lifted, 3 they meet in the air, 4 pin reached."""
    if ("red_peg", "pin") in contacts:
        return SUCCESS
    is_lifted = all((part, "table") not in contacts for part in ("red_peg", *_SOCKET))
    if is_lifted and any(("red_peg", wall) in contacts for wall in _SOCKET):
        return 3
    right_touches = ("red_peg", _RIGHT_FINGER) in contacts
    if right_touches and any((wall, _LEFT_FINGER) in contacts for wall in _SOCKET):
        return 2 if is_lifted else 1
    return 0


REWARDS: dict[str, Callable[[Contacts], int]] = {
    "transfer-cube": transfer_cube_reward,
    "insertion": insertion_reward,
}


class AlohaEnv(SceneEnv["_Simulation"]):
    """One task. Object positions are drawn afresh at each reset; a seed replays bit for bit.

    Observation: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (14,) float32: of the left, then the
    right arm, six joint angles in radians and the gripper's opening from 0 (closed) to 1. Action: (14,)
    float32, the targets of the same numbers. Reward: 0 to 4, as the task's function in REWARDS says; 4 is
    success. Every info holds `is_success`, of that very step. Actions so violent that the simulation diverges
    end the episode without success. The simulation and its renderer are made on first use, so that a new
    environment can be sent to another process.
    """

    views = VIEWS
    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    fps = 50
    robot_type = "aloha_sim"
    state_names = tuple(f"{arm}_{joint}" for arm in ("left", "right") for joint in JOINTS)
    action_names = state_names
    gripper_actions = (6, 13)
    actions_are_targets = True

    def __init__(
        self,
        task: str,
        *,
        cameras: tuple[str, ...] = ("top",),
        width: int = 96,
        height: int = 96,
        max_episode_steps: int = 400,
        instruction: str | None = None,
        terminate_on_success: bool = True,
        shadows: bool = False,
        render_mode: str = "rgb_array",
    ) -> None:
        """Describe the environment.

        task: a name of TASKS; cameras: names of VIEWS; width, height: pixels; max_episode_steps: when an
        episode is truncated; instruction: given instead of the task's own; terminate_on_success: whether the
        first success ends the episode; shadows: full rendering quality, several times slower.

        Raises:
            ValueError: a value that cannot be used; one line.
        """
        if task not in TASKS:
            raise ValueError(f"task {task!r}: expected one of {', '.join(TASKS)}")
        check_views(tuple(cameras))
        settings = Settings(
            task=task,
            instruction=instruction or INSTRUCTIONS[task],
            cameras=tuple(cameras),
            width=width,
            height=height,
            max_episode_steps=max_episode_steps,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
        )
        joints = gym.spaces.Box(-LARGEST_NUMBER, LARGEST_NUMBER, (14,), np.float32)
        super().__init__(settings, joints, shadows=shadows)
        low, high = np.array(LOWEST * 2, np.float32), np.array(HIGHEST * 2, np.float32)
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode whose object positions come from the seed, and render."""
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""
        super().reset(seed=seed)
        if self._simulation is None:
            self._simulation = _Simulation(self.task)
        self._simulation.reset(self.np_random)
        self._steps, self._is_over = 0, False
        return {"is_success": False}

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Simulate one control step without rendering. Returns reward, terminated, truncated and info.

        Raises:
            RuntimeError: called after the end of an episode.
            ValueError: an action of another shape, or with numbers that are not finite.
        """
        if self._is_over or self._simulation is None:
            raise RuntimeError("step called outside an episode: call reset first")
        targets = np.asarray(action, dtype=np.float32)
        if targets.shape != (14,) or not np.isfinite(targets).all():
            raise ValueError(f"action {action!r}: expected 14 finite numbers")
        reward = self._simulation.step(targets)
        is_success = reward == SUCCESS
        terminated, truncated = self._count_step(is_success, is_broken=self._simulation.has_diverged)
        return float(reward), terminated, truncated, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Render every camera and read the joints."""
        return {
            "pixels": self._pictures(),
            "agent_pos": joint_numbers(self._running().data.qpos).astype(np.float32),
        }

    def privileged_state(self) -> np.ndarray:
        """Return the simulator's own state, (Q + V,) float64.

        Positions: per arm six joints and two fingers, then per object x, y, z and a unit quaternion; Q is 23
        for the cube, 30 for peg and socket. Velocities: the same with three rates of rotation; V is 22 or 28.
        """
        data = self._running().data
        return np.concatenate([data.qpos, data.qvel])

    def snapshot(self) -> Snapshot:
        """Return all that the rest of the episode depends on. RuntimeError before the first reset."""
        simulation = self._running()
        return Snapshot(
            simulation=simulation,
            state=simulation.save(),
            generator=self.np_random.bit_generator.state,
            steps=self._steps,
            is_over=self._is_over,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this very environment. ValueError for one of another."""
        simulation = self._running()
        check_owner(snapshot, simulation)
        simulation.load(snapshot.state)
        self.np_random.bit_generator.state = snapshot.generator
        self._steps, self._is_over = snapshot.steps, snapshot.is_over

    def landmarks(self) -> dict[str, np.ndarray]:
        """Return positions (3,) in metres of both grippers and of `cube`, or of `peg` and `socket`."""
        simulation = self._running()
        parts = {f"{arm}_gripper": f"vx300s_{arm}/gripper_link" for arm in ("left", "right")}
        parts |= OBJECTS[self.task]
        return {name: simulation.data.body(body).xpos.copy() for name, body in parts.items()}

    def displace_object(self, generator: np.random.Generator) -> None:
        """Move cube or peg at once; `restore` undoes it."""
        simulation = self._running()
        joint = physics.object_joint(simulation.model, ROBOT_POSITIONS)
        physics.displace(simulation.model, simulation.data, joint, generator, TABLE_LOW, TABLE_HIGH)
        mujoco.mj_step1(simulation.model, simulation.data)

    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give cube or peg another colour; `restore` undoes it."""
        model = self._running().model
        body = model.jnt_bodyid[physics.object_joint(model, ROBOT_POSITIONS)]
        physics.repaint(model, int(body), generator)


class _Simulation:
    """gym-aloha's scene of a task, stepped the way dm_control steps it."""

    def __init__(self, task: str) -> None:
        self.model = load_model(task)
        self.data = mujoco.MjData(self.model)
        self._ranges = _START_RANGES[task]
        self._reward = REWARDS[task]
        self._names = [self.model.geom(geom).name for geom in range(self.model.ngeom)]

    def reset(self, generator: np.random.Generator) -> None:
        """Put the arms into their start pose and drop the objects at drawn positions."""
        mujoco.mj_resetData(self.model, self.data)
        objects = [np.append(generator.uniform(low, high), _UPRIGHT) for low, high in self._ranges]
        self.data.qpos[:] = np.concatenate([START_ARM_POSE, *objects])
        self.data.ctrl[:] = START_ARM_POSE
        # Without actuation, as dm_control does it: the solver's first guess is then the stock one's.
        flags = self.model.opt.disableflags
        self.model.opt.disableflags = flags | mujoco.mjtDisableBit.mjDSBL_ACTUATION
        mujoco.mj_forward(self.model, self.data)
        self.model.opt.disableflags = flags

    def step(self, action: np.ndarray) -> int:
        """Simulate one control step; returns the reward.

        The last half step brings positions and contacts up to date with the state, as dm_control does.
        """
        self.data.ctrl[:] = actuator_targets(action)
        mujoco.mj_step2(self.model, self.data)
        mujoco.mj_step(self.model, self.data, PHYSICS_STEPS - 1)
        mujoco.mj_step1(self.model, self.data)
        return 0 if self.has_diverged else self._reward(self.contacts())

    def save(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Return the state of the physics, colours, and how many warnings of each kind there were."""
        numbers = [warning.number for warning in self.data.warning]
        return physics.save(self.model, self.data), self.model.geom_rgba.copy(), numbers

    def load(self, saved: tuple[np.ndarray, np.ndarray, list[int]]) -> None:
        """Go back to what `save` returned: after the first half of a step, as `step` leaves it."""
        state, colors, numbers = saved
        physics.load(self.model, self.data, state)
        self.model.geom_rgba[:] = colors
        mujoco.mj_step1(self.model, self.data)
        for warning, number in zip(self.data.warning, numbers, strict=True):
            warning.number = number

    @property
    def has_diverged(self) -> bool:
        """Whether MuJoCo has met numbers that it cannot go on with, and started over, since the reset."""
        return any(self.data.warning[kind].number for kind in _DIVERGENCES)

    def contacts(self) -> Contacts:
        """Return which geoms touch, by name."""
        pairs = [(self._names[one], self._names[two]) for one, two in self.data.contact.geom]
        return {*pairs, *((two, one) for one, two in pairs)}
