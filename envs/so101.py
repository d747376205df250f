"""An SO-101-sized arm at a table: five joints and a gripper bring the gripper around a red cube.

The arm is `assets/so101.xml`, the scene around it `assets/tabletop.xml`. A control step lasts 1/30 s, as
LeRobot drives the arm. H, W picture size.
"""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from envs import physics, rendering
from envs.rendering import FreeView, ModelView, Views
from envs.scene_env import SceneEnv
from envs.simulated import Settings, Snapshot, check_owner
from envs.so101_arm import ASSETS, HIGHEST, JOINTS, LOWEST, attach_arm, joint_numbers, joint_radians

TASKS = ("reach-cube",)
INSTRUCTIONS = {"reach-cube": "bring the gripper around the red cube"}

# The arm stands at the origin and works along +x. `front` faces it, `side` looks along +y, `top` down.
VIEWS: Views = {
    "front": FreeView(lookat=(0.17, 0.0, 0.06), distance=0.58, azimuth=-160.0, elevation=-35.0),
    "side": FreeView(lookat=(0.17, 0.0, 0.06), distance=0.58, azimuth=110.0, elevation=-30.0),
    "top": FreeView(lookat=(0.19, 0.0, 0.0), distance=0.62, azimuth=0.0, elevation=-89.0),
    "wrist": ModelView(name="wrist"),
}

FPS = 30
PHYSICS_STEPS = 20
HOME = (0.0, -35.0, 45.0, 75.0, 0.0, 50.0)
"""Where the arm starts, but for START_SPREAD: over the table, the gripper pointing down."""
START_SPREAD = (10.0, 5.0, 5.0, 5.0, 10.0, 10.0)
CUBE_LOW, CUBE_HIGH = (0.18, -0.11), (0.28, 0.11)
"""Where the cube starts, and may be displaced to: x and y in metres."""
CUBE_HEIGHT = 0.0125
REACHED = 0.015
"""How near its middle the point between the jaws has to come, in metres: the cube is then between them."""
LARGEST_NUMBER = 1000.0

ARM, CUBE = slice(0, 6), slice(6, 13)
"""Of `SO101Env.privileged_state`: joints in radians; the cube's place and unit quaternion."""


def check_views(names: tuple[str, ...]) -> None:
    """Raise ValueError, naming the known views, unless `names` are one or more distinct names of VIEWS."""
    rendering.check_views(names, VIEWS)


def load_model() -> mujoco.MjModel:
    """Compile the table with the arm at its origin."""
    scene = mujoco.MjSpec.from_file(str(ASSETS / "tabletop.xml"))
    scene.option.timestep = 1.0 / (FPS * PHYSICS_STEPS)
    attach_arm(scene)
    return scene.compile()


def closeness(distance: float) -> float:
    """Reward for a distance in metres: 1 at the cube, about a quarter at 10 cm."""
    return float(1.0 - np.tanh(distance / 0.1))


class SO101Env(SceneEnv["_Simulation"]):
    """One task. Cube and arm start elsewhere at each reset; a seed replays bit for bit.

    Observation: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (6,) float32: five joint angles in
    degrees and the gripper's opening from 0 (closed) to 100 (open). Action: (6,) float32, the targets of the
    same numbers; what lies beyond a joint's range counts as its end. Reward: `closeness`. Every info holds
    `is_success`, of that very step: the point between the jaws is at the cube. The simulation and its
    renderer are made on first use, so that a new environment can be sent to another process.
    """

    views = VIEWS
    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}
    fps = FPS
    robot_type = "sim_so101"
    state_names = tuple(f"{joint}.pos" for joint in JOINTS)
    action_names = state_names
    gripper_actions = (5,)
    actions_are_targets = True

    def __init__(
        self,
        task: str = "reach-cube",
        *,
        cameras: tuple[str, ...] = ("front", "wrist"),
        width: int = 96,
        height: int = 96,
        max_episode_steps: int = 150,
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
        joints = gym.spaces.Box(-LARGEST_NUMBER, LARGEST_NUMBER, (6,), np.float32)
        super().__init__(settings, joints, shadows=shadows)
        low, high = np.array(LOWEST, np.float32), np.array(HIGHEST, np.float32)
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode whose cube and arm come from the seed, and render."""
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""
        super().reset(seed=seed)
        if self._simulation is None:
            self._simulation = _Simulation()
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
        if targets.shape != (6,) or not np.isfinite(targets).all():
            raise ValueError(f"action {action!r}: expected 6 finite numbers")
        self._simulation.step(targets)
        distance = self._simulation.distance()
        is_success = distance <= REACHED
        terminated, truncated = self._count_step(is_success)
        return closeness(distance), terminated, truncated, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Render every camera and read the joints."""
        return {"pixels": self._pictures(), "agent_pos": self._running().numbers().astype(np.float32)}

    def privileged_state(self) -> np.ndarray:
        """Return the simulator's own state, (25,) float64.

        Joints (6) in radians, the cube's place (3) and unit quaternion (4), then the rates of the joints (6)
        and of the cube (3 + 3).
        """
        return self._running().state()

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
        """Return positions (3,) in metres of the point between the jaws, `gripper`, and of `cube`."""
        data = self._running().data
        return {"gripper": data.site("pinch").xpos.copy(), "cube": data.body("cube").xpos.copy()}

    def displace_object(self, generator: np.random.Generator) -> None:
        """Move the cube at once; `restore` undoes it."""
        simulation = self._running()
        physics.displace(simulation.model, simulation.data, simulation.cube, generator, CUBE_LOW, CUBE_HIGH)
        simulation.refresh()

    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give the cube another colour; `restore` undoes it."""
        simulation = self._running()
        physics.repaint(simulation.model, simulation.cube, generator)


class _Simulation:
    """The scene, stepped; after every change, places are those of the present state."""

    def __init__(self) -> None:
        self.model = load_model()
        self.data = mujoco.MjData(self.model)
        self.cube = self.model.joint("cube").id
        joints = [self.model.joint(name).id for name in ("cube", *JOINTS)]
        cube, *arm = self.model.jnt_qposadr[joints]
        cube_rate, *arm_rates = self.model.jnt_dofadr[joints]
        self._arm = np.array(arm)
        self._positions = np.array([*arm, *range(cube, cube + 7)])
        self._rates = np.array([*arm_rates, *range(cube_rate, cube_rate + 6)])

    def reset(self, generator: np.random.Generator) -> None:
        """Put arm and cube where the generator says."""
        mujoco.mj_resetData(self.model, self.data)
        joints = joint_radians(HOME + generator.uniform(-1.0, 1.0, 6) * START_SPREAD)
        place, yaw = generator.uniform(CUBE_LOW, CUBE_HIGH), generator.uniform(-np.pi / 4, np.pi / 4)
        cube = (*place, CUBE_HEIGHT, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        self.data.qpos[self._positions] = np.concatenate([joints, cube])
        self.data.ctrl[:] = joints
        self.refresh()

    def step(self, action: np.ndarray) -> None:
        """Simulate one control step."""
        self.data.ctrl[:] = joint_radians(action)
        mujoco.mj_step(self.model, self.data, PHYSICS_STEPS)
        self.refresh()

    def refresh(self) -> None:
        """Bring what is seen up to date with the state."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def numbers(self) -> np.ndarray:
        """Return the joints in degrees and the gripper in per cent, (6,)."""
        return joint_numbers(self.data.qpos[self._arm])

    def state(self) -> np.ndarray:
        """Return positions and rates of arm and cube, (25,)."""
        return np.concatenate([self.data.qpos[self._positions], self.data.qvel[self._rates]])

    def distance(self) -> float:
        """Return how far the point between the jaws is from the cube's middle, in metres."""
        return float(np.linalg.norm(self.data.site("pinch").xpos - self.data.body("cube").xpos))

    def save(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the state of the physics, and colours."""
        return physics.save(self.model, self.data), self.model.geom_rgba.copy()

    def load(self, saved: tuple[np.ndarray, np.ndarray]) -> None:
        """Go back to what `save` returned."""
        state, colors = saved
        physics.load(self.model, self.data, state)
        self.model.geom_rgba[:] = colors
        self.refresh()
