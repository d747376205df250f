"""PushT, a T-shaped block pushed over its outline on a table, as a Gymnasium environment with an instruction.

The game is gym-pusht's own (Chi et al., Diffusion Policy, arXiv 2303.04137): physics, start positions, reward
and pictures come from the installed package. A control step lasts 0.1 s (10 Hz). H, W picture size.
"""

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from envs.simulated import Settings, SimulatedEnv, Snapshot, check_owner

if TYPE_CHECKING:
    from gym_pusht.envs import PushTEnv as StockPushT

TASKS = ("push-t",)
INSTRUCTIONS = {"push-t": "push the T-shaped block onto the green T-shaped outline"}
CAMERAS = ("top",)
TABLE_SIZE = 512.0
"""Side of the table in gym-pusht's length unit, a pixel of its full picture."""
DISPLACEMENT = 120.0
"""By how much the block is displaced at least: the length of its bar."""
COLORS = ((220, 30, 30, 255), (200, 170, 0, 255), (170, 0, 170, 255))
"""Red, green, blue and opacity, none like the block's own slate grey."""
PUSHER, PUSHER_VELOCITY, BLOCK = slice(0, 2), slice(2, 4), slice(4, 7)
BLOCK_VELOCITY, OUTLINE = slice(7, 10), slice(10, 13)
"""Parts of the privileged state."""


class PushTEnv(SimulatedEnv):
    """A round pusher and a T-shaped block on a table; the block has to cover its outline.

    Lengths are gym-pusht's pixels: x to the right and y downwards, from 0 to 512. Observation: "pixels",
    {"top": (H, W, 3) uint8}, and "agent_pos", (2,) float32: the pusher's centre. Action: (2,) float32 in
    [0, 512]: where the pusher is to go, as in LeRobot's PushT data; what lies outside counts as the nearest
    point inside. Reward: the part of the outline that is covered, over 0.95, at most 1. Success: more than
    95 % covered. Every info holds `is_success` and `coverage`, of that very step. Start positions are drawn
    as gym-pusht draws them, and never solve the task. The simulation is made on first use, so that a new
    environment can be sent to another process; it needs no display.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    fps = 10
    robot_type = "pusht"
    state_names = ("pusher_x", "pusher_y")
    action_names = ("target_x", "target_y")
    actions_are_targets = True

    def __init__(
        self,
        task: str = "push-t",
        *,
        cameras: tuple[str, ...] = CAMERAS,
        width: int = 96,
        height: int = 96,
        max_episode_steps: int = 300,
        instruction: str | None = None,
        terminate_on_success: bool = True,
        render_mode: str = "rgb_array",
    ) -> None:
        """Describe the environment.

        task: "push-t"; cameras: ("top",), there is no other; width, height: pixels; max_episode_steps: when
        an episode is truncated; instruction: given instead of the task's own; terminate_on_success: whether
        the first success ends the episode.

        Raises:
            ValueError: a value that cannot be used; one line.
        """
        if task not in TASKS:
            raise ValueError(f"task {task!r}: expected {TASKS[0]}")
        check_cameras(tuple(cameras))
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
        super().__init__(settings, gym.spaces.Box(0.0, TABLE_SIZE, (2,), np.float32))
        self._simulation: StockPushT | None = None
        self._actions: list[np.ndarray] = []
        self._is_edited = False
        self._before_start: Mapping[str, Any] = {}
        """State of the random numbers before the episode's positions were drawn."""
        self.action_space = gym.spaces.Box(0.0, TABLE_SIZE, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode whose positions come from the seed, and render."""
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""
        super().reset(seed=seed)
        if self._simulation is None:
            self._simulation = _make_simulation(self.width, self.height)
        coverage = self._start(self._simulation)
        self._steps, self._is_over = 0, False
        return {"is_success": False, "coverage": coverage}

    def _start(self, simulation: "StockPushT") -> float:
        """Draw positions that do not solve the task; returns the coverage."""
        self._before_start, self._actions = self.np_random.bit_generator.state, []
        self._is_edited = False
        simulation.np_random = self.np_random
        coverage = math.inf
        while coverage > simulation.success_threshold:
            simulation.reset()
            coverage = float(simulation._get_coverage())
        return coverage

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Simulate one control step without rendering. Returns reward, terminated, truncated and info.

        Raises:
            RuntimeError: the episode is over.
            ValueError: an action that is not two finite numbers; the physics library would end the process.
        """
        if self._is_over or self._simulation is None:
            raise RuntimeError("step called outside an episode: call reset first")
        target = np.asarray(action, dtype=np.float32)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise ValueError(f"action {target.tolist()}: expected two finite numbers, x and y in pixels")
        target = np.clip(target, 0.0, TABLE_SIZE)
        _, reward, _, _, stock_info = self._simulation.step(target)
        self._actions.append(target)
        is_success = bool(stock_info["is_success"])
        terminated, truncated = self._count_step(is_success)
        info = {"is_success": is_success, "coverage": float(stock_info["coverage"])}
        return float(reward), terminated, truncated, info

    def observe(self) -> dict[str, Any]:
        """Draw the table and read the pusher's position."""
        picture = self.render()
        # Clipped, because the pusher may stand beyond the edge by a rounding error.
        position = np.clip(self.privileged_state()[PUSHER], 0.0, TABLE_SIZE).astype(np.float32)
        return {"pixels": {camera: picture for camera in self.cameras}, "agent_pos": position}

    def render(self) -> np.ndarray:
        """Return the picture of the table, (H, W, 3) uint8, as in gym-pusht's observations."""
        return np.asarray(self._started()._render(visualize=False))

    def privileged_state(self) -> np.ndarray:
        """Return everything that moves, (13,) float64, in pixels, radians and seconds.

        Pusher x, y and their velocities; block x, y, angle and their velocities; outline x, y, angle. A
        pose is that of the T's own origin, in the middle of its crossbar's outer edge.
        """
        simulation = self._started()
        pusher, block = simulation.agent, simulation.block
        return np.array(
            [
                *pusher.position,
                *pusher.velocity,
                *block.position,
                block.angle,
                *block.velocity,
                block.angular_velocity,
                *simulation.goal_pose,
            ]
        )

    def snapshot(self) -> Snapshot:
        """Return all that the rest of the episode depends on.

        RuntimeError before the first reset, and after an edit. The physics library cannot copy its contacts
        faithfully, so that the state is told by how it came about: random numbers and actions.
        """
        if self._is_edited:
            raise RuntimeError("snapshot after an edit: expected one from before it, or restore that first")
        return Snapshot(
            simulation=self._started(),
            state=(self._before_start, tuple(self._actions)),
            generator=self.np_random.bit_generator.state,
            steps=self._steps,
            is_over=self._is_over,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this very environment by playing its episode again, without pictures.

        Takes as long as the episode's steps did. ValueError for a snapshot of another environment.
        """
        simulation = self._started()
        check_owner(snapshot, simulation)
        before_start, actions = snapshot.state
        self.np_random.bit_generator.state = before_start
        self._start(simulation)
        for action in actions:
            simulation.step(action)
        self._actions = list(actions)
        self.np_random.bit_generator.state = snapshot.generator
        self._steps, self._is_over = snapshot.steps, snapshot.is_over

    def landmarks(self) -> dict[str, np.ndarray]:
        """Return positions (2,) in pixels of `pusher` and `block`, and of the `goal`, the outline."""
        state = self.privileged_state()
        return {"pusher": state[PUSHER], "block": state[BLOCK][:2], "goal": state[OUTLINE][:2]}

    def displace_object(self, generator: np.random.Generator) -> None:
        """Move and turn the block at once; `restore` undoes it."""
        self._is_edited = True
        block = self._started().block
        there = place = np.array(block.position)
        while np.linalg.norm(there - place) < DISPLACEMENT:
            there = generator.uniform(0.25 * TABLE_SIZE, 0.75 * TABLE_SIZE, 2)
        block.angle = float(generator.uniform(-np.pi, np.pi))  # first: turning the block moves its origin
        block.position = (float(there[0]), float(there[1]))
        block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
        self._started().space.reindex_shapes_for_body(block)

    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give the block another colour; `restore` undoes it."""
        self._is_edited = True
        color = COLORS[int(generator.integers(len(COLORS)))]
        for shape in self._started()._block_shapes:
            shape.color = color

    def _started(self) -> "StockPushT":
        if self._simulation is None:
            raise RuntimeError("nothing to see before the first reset")
        return self._simulation


def check_cameras(names: tuple[str, ...]) -> None:
    """Raise ValueError unless `names` are one or more distinct cameras of PushT, of which there is one."""
    if names != CAMERAS:
        raise ValueError(f"cameras {','.join(names)!r}: expected {CAMERAS[0]}, once")


def _make_simulation(width: int, height: int) -> "StockPushT":
    """Import gym-pusht, whose drawing library warns, and make its environment.

    That library's greeting on stdout is switched off by Gymnasium.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from gym_pusht.envs import pusht as stock

    class Repeatable(stock.PushTEnv):
        """Stock PushT adds up the block's parts in the order of their addresses: seen in the last bit."""

        def _get_coverage(self) -> float:
            goal = stock.pymunk_to_shapely(self.get_goal_pose_body(self.goal_pose), self._block_shapes)
            block = stock.pymunk_to_shapely(self.block, self._block_shapes)
            return goal.intersection(block).area / goal.area

    # Stock observations would render at every step; this type reads the positions only.
    return Repeatable(obs_type="state", observation_width=width, observation_height=height)
