"""Meta-World v3 tasks as Gymnasium environments with pictures, an instruction and the gripper's own state.

A control step lasts 12.5 ms (80 Hz). H, W picture size.
"""

import copy
import warnings
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from envs import physics
from envs.metaworld_tasks import INSTRUCTIONS, parse_tasks
from envs.rendering import VIEWS, check_views
from envs.scene_env import SceneEnv
from envs.simulated import Settings, Snapshot, check_owner

LONGEST_EPISODE = 500
HAND_LOW = (-0.525, 0.348, -0.0525)
HAND_HIGH = (0.525, 1.025, 0.7)
ROBOT_POSITIONS = 9
TABLE_LOW, TABLE_HIGH = (-0.25, 0.5), (0.25, 0.85)
"""Where a displaced object may go: within reach and view."""

REGIONS = ("all", "left", "right")
"""Where the last position that a reset draws may lie, the goal's or else the object's: anywhere, or in the
half of small or of large x. Left and right on the pictures of the camera `corner`."""

PUSH_STEPS = 12
"""A push lasts this long, at the hand's full speed: up to 12 cm sideways along each axis."""

PUSH_BEGINS = (10, 40)
"""Between these control steps a push begins: the hand is on its way."""


class MetaworldEnv(SceneEnv["_Simulation"]):
    """One task. Object and goal positions are drawn afresh at each reset; a seed replays bit for bit.

    Observation: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (4,) float32: hand x, y, z in metres
    and gripper opening from 0 (closed) to 1. Action: (4,) float32 in [-1, 1]: hand motion along x, y, z (1 is
    1 cm) and gripper closing. Every info holds `is_success`, of that very step. The simulation and its
    renderer are made on first use, so that a new environment can be sent to another process.
    """

    views = VIEWS
    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}
    fps = 80
    robot_type = "metaworld_sawyer"
    state_names = ("hand_x", "hand_y", "hand_z", "gripper_opening")
    action_names = ("hand_dx", "hand_dy", "hand_dz", "gripper_force")
    gripper_actions = (3,)

    def __init__(
        self,
        task: str,
        *,
        cameras: tuple[str, ...] = ("corner", "gripper"),
        width: int = 96,
        height: int = 96,
        max_episode_steps: int = 200,
        instruction: str | None = None,
        goal_color: tuple[float, float, float] | None = None,
        region: str = "all",
        pushed: bool = False,
        terminate_on_success: bool = True,
        shadows: bool = False,
        render_mode: str = "rgb_array",
    ) -> None:
        """Describe the environment.

        task: a name of MT50; cameras: names of `envs.rendering.VIEWS`; width, height: pixels;
        max_episode_steps: when an episode is truncated; instruction: given instead of the task's own;
        goal_color: red, green and blue in [0, 1] for every goal marker, the task's own if None; region: see
        `REGIONS`; pushed: once in every episode, something carries the hand away whatever the action;
        terminate_on_success: whether the first success ends the episode; shadows: full rendering quality,
        about ten times slower.

        Raises:
            ValueError: a value that cannot be used; one line.
        """
        names = parse_tasks(task)
        if len(names) != 1:
            raise ValueError(f"task {task!r}: expected one task")
        check_views(tuple(cameras))
        if not 1 <= max_episode_steps <= LONGEST_EPISODE:
            raise ValueError(f"max_episode_steps={max_episode_steps}: expected 1 to {LONGEST_EPISODE}")
        if goal_color is not None and not _is_color(goal_color):
            raise ValueError(f"goal_color={goal_color}: expected three numbers from 0 to 1")
        if region not in REGIONS:
            raise ValueError(f"region={region!r}: expected one of {', '.join(REGIONS)}")
        settings = Settings(
            task=names[0],
            instruction=instruction or INSTRUCTIONS[names[0]],
            cameras=tuple(cameras),
            width=width,
            height=height,
            max_episode_steps=max_episode_steps,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
        )
        low, high = np.array((*HAND_LOW, 0.0), np.float32), np.array((*HAND_HIGH, 1.0), np.float32)
        super().__init__(settings, gym.spaces.Box(low, high, dtype=np.float32), shadows=shadows)
        self.goal_color = goal_color
        self.region = region
        self.pushed = pushed
        self._state = np.zeros(39)
        self._push: dict[int, np.ndarray] = {}
        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode whose object and goal positions come from the seed, and render."""
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""
        super().reset(seed=seed)
        if self._simulation is None:
            self._simulation = _Simulation(self.task, self.goal_color, self.region)
        self._state = self._simulation.reset(self.np_random)
        self._push = _draw_push(self.np_random) if self.pushed else {}
        self._steps, self._is_over = 0, False
        return {"is_success": False}

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Simulate one control step without rendering. Returns reward, terminated, truncated and info.

        Raises RuntimeError after the end of an episode.
        """
        if self._is_over or self._simulation is None:
            raise RuntimeError("step called outside an episode: call reset first")
        action = np.array(action, dtype=np.float32)
        if self._steps in self._push:
            action[:3] = self._push[self._steps]
        self._state, reward, is_success = self._simulation.step(action)
        terminated, truncated = self._count_step(is_success)
        return reward, terminated, truncated, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Render every camera and read the gripper's state."""
        return {"pixels": self._pictures(), "agent_pos": self._state[:4].astype(np.float32)}

    def privileged_state(self) -> np.ndarray:
        """Return what the scripted experts read, (39,) float64.

        Hand, gripper, two objects with their rotations; the same one step earlier; the goal.
        """
        return self._state.copy()

    def snapshot(self) -> Snapshot:
        """Return all that the rest of the episode depends on. RuntimeError before the first reset."""
        simulation = self._running()
        return Snapshot(
            simulation=simulation,
            state=(self._state.copy(), self._push, simulation.save()),
            generator=self.np_random.bit_generator.state,
            steps=self._steps,
            is_over=self._is_over,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this very environment. ValueError for one of another."""
        simulation = self._running()
        check_owner(snapshot, simulation)
        state, self._push, saved = snapshot.state
        self._state = state.copy()
        simulation.load(saved)
        self.np_random.bit_generator.state = snapshot.generator
        self._steps, self._is_over = snapshot.steps, snapshot.is_over

    def landmarks(self) -> dict[str, np.ndarray]:
        """Return positions (3,) in metres: `gripper`, `object`, `goal`, perhaps `other_object`."""
        state = self.privileged_state()
        found = {"gripper": state[:3], "object": state[4:7], "goal": state[36:39]}
        return {**found, "other_object": state[11:14]} if state[11:18].any() else found

    def displace_object(self, generator: np.random.Generator) -> None:
        """Move the main object, or the handle, at once; `restore` undoes it."""
        self._state[:18] = self._running().displace(generator)

    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give the main object, or the handle, another colour; `restore` undoes it."""
        simulation = self._running()
        physics.repaint(
            simulation.model, int(simulation.model.jnt_bodyid[simulation.object_joint]), generator
        )


def _is_color(parts: tuple[float, ...]) -> bool:
    return len(parts) == 3 and all(0 <= part <= 1 for part in parts)


def _draw_push(generator: np.random.Generator) -> dict[int, np.ndarray]:
    """The hand's motion (3,) at the control steps of one push, towards a corner of the cube of actions."""
    begin = int(generator.integers(*PUSH_BEGINS))
    direction = np.array((*generator.choice((-1.0, 1.0), 2), 1.0), np.float32)  # never into the table
    return dict.fromkeys(range(begin, begin + PUSH_STEPS), direction)


class _Simulation:
    """Meta-World's own environment, made to show its goal and to draw from the generator it is given."""

    def __init__(self, task: str, goal_color: tuple[float, float, float] | None, region: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._env: Any = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
        self.model: mujoco.MjModel = self._env.model
        self.data: mujoco.MjData = self._env.data
        self.object_joint = physics.object_joint(self.model, ROBOT_POSITIONS)
        # The cached observation space would clip the goal in every state to zero.
        self._env._partially_observable = False
        self._env.__dict__.pop("sawyer_observation_space", None)
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self._env._set_task_called = True
        if region != "all":
            space = self._env._random_reset_space
            low, high = space.low.copy(), space.high.copy()
            (high if region == "left" else low)[-3] = (low[-3] + high[-3]) / 2
            self._env._random_reset_space = gym.spaces.Box(low, high, dtype=space.dtype)
        if goal_color is not None:
            for site in range(self.model.nsite):
                if "goal" in self.model.site(site).name:
                    self.model.site_rgba[site, :3] = goal_color

    def reset(self, generator: np.random.Generator) -> np.ndarray:
        """Place everything anew; returns the state (39,)."""
        self._env.np_random = generator
        self._env.reset()
        # Many tasks move their goal last: without this, picture and state would show an earlier position.
        mujoco.mj_forward(self.model, self.data)
        self._env._prev_obs = self._env._get_curr_obs_combined_no_goal()
        return self._env._get_obs()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Simulate one control step; returns the state (39,), the reward and whether it is a success."""
        state, reward, _, _, info = self._env.step(action)
        return state, float(reward), bool(info["success"])

    def displace(self, generator: np.random.Generator) -> np.ndarray:
        """Move the main object at once; returns the present half of the state without the goal, (18,)."""
        physics.displace(self.model, self.data, self.object_joint, generator, TABLE_LOW, TABLE_HIGH)
        mujoco.mj_forward(self.model, self.data)
        return self._env._get_curr_obs_combined_no_goal()

    def save(self) -> dict[str, Any]:
        """Return physics, colours, where resets have put bodies and sites, and what Meta-World remembers."""
        return {
            "physics": physics.save(self.model, self.data),
            "bodies": self.model.body_pos.copy(),
            "sites": self.model.site_pos.copy(),
            "colors": self.model.geom_rgba.copy(),
            "memory": {
                name: _own(value) for name, value in vars(self._env).items() if isinstance(value, _PLAIN)
            },
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Go back to what `save` returned: after a forward pass, as `step` leaves it."""
        self.model.body_pos[:], self.model.site_pos[:] = saved["bodies"], saved["sites"]
        self.model.geom_rgba[:] = saved["colors"]
        physics.load(self.model, self.data, saved["physics"])
        mujoco.mj_forward(self.model, self.data)
        physics.load(self.model, self.data, saved["physics"])
        vars(self._env).update({name: _own(value) for name, value in saved["memory"].items()})


_PLAIN = (np.ndarray, np.generic, bool, int, float, str, tuple, list, dict, type(None))


def _own(value: Any) -> Any:
    """A copy, but for a view of the simulator's memory: that follows the physics, and has to go on so."""
    root = value
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    is_view = isinstance(root, np.ndarray) and root.base is not None
    return value if is_view else copy.deepcopy(value)
