"""An SO-101-sized arm at a table: five joints and a gripper, and the tasks of `envs.tasks`.

H, W picture size; n things of a task, m of them movable, G numbers of its goal.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from envs import rendering
from envs.scene_env import SceneEnv
from envs.simulated import Settings, Snapshot, check_owner
from envs.so101_arm import HIGHEST, JOINTS, LOWEST
from envs.tabletop import FPS, GOAL_VIEW, VIEWS, World
from envs.tasks import make_task
from envs.tasks.task import Goal, Verdict

LARGEST_NUMBER = 1000.0

ARM = slice(0, 6)
"""Of `SO101Env.privileged_state`: joints in radians."""


def check_views(names: tuple[str, ...]) -> None:
    """Raise ValueError, naming the known views, unless `names` are one or more distinct names of VIEWS."""
    rendering.check_views(names, VIEWS)


class SO101Env(SceneEnv[World]):
    """One task. Things and arm start elsewhere at each reset; a seed replays bit for bit.

    Observation: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (6,) float32: five joint angles in
    degrees and the gripper's opening from 0 (closed) to 100 (open). Action: (6,) float32, the targets of the
    same numbers; what lies beyond a joint's range counts as its end. Reward: the sum of the task's terms,
    which an info has by name under `rewards`. Every info holds `is_success`, of that very step. A failure
    that cannot be made good ends an episode. What is asked for, `task_description`, is drawn at each reset.
    The simulation and its renderer are made on first use, so that a new environment can be sent to another
    process.
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
        max_episode_steps: int | None = None,
        instruction: str | None = None,
        terminate_on_success: bool = True,
        shadows: bool = False,
        render_mode: str = "rgb_array",
    ) -> None:
        """Describe the environment.

        task: a name of `envs.tasks.TASKS`; cameras: names of VIEWS; width, height: pixels; max_episode_steps:
        when an episode is truncated, the task's own number if None; instruction: given instead of the task's
        own; terminate_on_success: whether the first success ends the episode; shadows: full rendering
        quality, several times slower.

        Raises:
            ValueError: a value that cannot be used; one line.
        """
        self._task = make_task(task)
        check_views(tuple(cameras))
        if GOAL_VIEW in cameras and not self._task.has_goal_picture:
            raise ValueError(f"camera {GOAL_VIEW!r} in task {task!r}: expected a task that shows its goal")
        settings = Settings(
            task=task,
            instruction=instruction or "",
            cameras=tuple(cameras),
            width=width,
            height=height,
            max_episode_steps=self._task.steps if max_episode_steps is None else max_episode_steps,
            terminate_on_success=terminate_on_success,
            render_mode=render_mode,
        )
        joints = gym.spaces.Box(-LARGEST_NUMBER, LARGEST_NUMBER, (6,), np.float32)
        super().__init__(settings, joints, shadows=shadows)
        low, high = np.array(LOWEST, np.float32), np.array(HIGHEST, np.float32)
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)
        self._instruction = instruction
        self._goal = Goal(instruction="", numbers=np.empty(0))
        self._goal_picture: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode drawn from the seed, and render."""
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""
        super().reset(seed=seed)
        if self._simulation is None:
            self._simulation = self._task.make_world()
        self._simulation.reset(self.np_random)
        self._goal = self._task.begin(self._simulation, self.np_random)
        self._goal_picture = None
        self._simulation.refresh()
        self.task_description = self._instruction or self._goal.instruction
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
        verdict = self._task.judge(self._simulation, self._goal, self._steps + 1)
        terms = self._task.rewards(self._simulation, self._goal)
        is_success = verdict is Verdict.SUCCESS
        terminated, truncated = self._count_step(is_success, is_broken=verdict is Verdict.FAILURE)
        return sum(terms.values()), terminated, truncated, {"is_success": is_success, "rewards": terms}

    def observe(self) -> dict[str, Any]:
        """Render every camera and read the joints."""
        return {"pixels": self._pictures(), "agent_pos": self._running().numbers().astype(np.float32)}

    def _picture(self, camera: str) -> np.ndarray:
        """As seen now or, for GOAL_VIEW, as it shall be in the end, with the arm at rest."""
        if camera != GOAL_VIEW:
            return super()._picture(camera)
        if self._goal_picture is None:
            world = self._running()
            saved = world.save()
            world.rest()
            self._task.arrange_goal(world, self._goal)
            self._goal_picture = super()._picture(camera)
            world.load(saved)
        return self._goal_picture.copy()

    def privileged_state(self) -> np.ndarray:
        """Return the simulator's own state, (6 + 7 n + G + 6 + 6 m,) float64.

        Joints (6) in radians, each thing's place (3) and unit quaternion (4), the goal's numbers (G), then
        the rates of the joints (6) and of the movable things (3 + 3).
        """
        world = self._running()
        return np.concatenate([world.poses(), self._goal.numbers, world.rates()])

    def snapshot(self) -> Snapshot:
        """Return all that the rest of the episode depends on. RuntimeError before the first reset."""
        world = self._running()
        return Snapshot(
            simulation=world,
            state=(world.save(), self._goal.instruction, self._goal.numbers.copy()),
            generator=self.np_random.bit_generator.state,
            steps=self._steps,
            is_over=self._is_over,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this very environment. ValueError for one of another."""
        world = self._running()
        check_owner(snapshot, world)
        saved, instruction, numbers = snapshot.state
        world.load(saved)
        self._goal = Goal(instruction=instruction, numbers=numbers.copy())
        self._goal_picture = None
        self.task_description = self._instruction or instruction
        self.np_random.bit_generator.state = snapshot.generator
        self._steps, self._is_over = snapshot.steps, snapshot.is_over

    def landmarks(self) -> dict[str, np.ndarray]:
        """Return positions (3,) in metres of the point between the jaws, `gripper`, and of each thing."""
        world = self._running()
        return {"gripper": world.pinch(), **{name: world.position(name) for name in world.names}}

    def displace_object(self, generator: np.random.Generator) -> None:
        """Move the task's first thing at once; `restore` undoes it."""
        world = self._running()
        world.displace(world.names[0], generator)

    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give the task's first thing another colour; `restore` undoes it."""
        world = self._running()
        world.repaint(world.names[0], generator)
