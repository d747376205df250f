"""Action chunks: the agent hands over n actions at once and sees one new observation, at the end.

n steps of a chunk, A action size.
"""

import abc
from typing import Any

import gymnasium as gym
import numpy as np


class ChunkableEnv(gym.Env, abc.ABC):
    """An environment that can simulate without rendering; its `step` is `advance`, then `observe`."""

    action_space: gym.spaces.Box

    @abc.abstractmethod
    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Simulate one control step for an action (A,); returns reward, terminated, truncated and info."""

    @abc.abstractmethod
    def observe(self) -> Any:
        """Return the observation of the present state, rendered now."""

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Simulate one control step for an action (A,) and render."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info


class ChunkWrapper(gym.Wrapper):
    """Execute chunks of actions, rendering only after the last one.

    The action space is the full chunk, (chunk_steps, A); a shorter one may be given. Execution stops at the
    step that terminates or truncates the episode. The reward is the sum over the executed steps and
    `info["steps"]` is their number; the rest of info is that of the last step.
    """

    env: ChunkableEnv

    def __init__(self, env: ChunkableEnv, chunk_steps: int) -> None:
        """Wrap `env`. Raises ValueError if chunk_steps is below 1."""
        if chunk_steps < 1:
            raise ValueError(f"chunk_steps={chunk_steps}: expected at least 1")
        super().__init__(env)
        self.chunk_steps = chunk_steps
        low, high = (
            np.tile(bound, (chunk_steps, 1)) for bound in (env.action_space.low, env.action_space.high)
        )
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Execute actions (n, A), n at most chunk_steps.

        Raises ValueError for another shape and for values that are not finite.
        """
        chunk = np.asarray(action, dtype=np.float32)
        size = len(self.env.action_space.low)
        if chunk.ndim != 2 or chunk.shape[1] != size or not 1 <= len(chunk) <= self.chunk_steps:
            raise ValueError(f"chunk of shape {chunk.shape}: expected (1 to {self.chunk_steps}, {size})")
        if not np.isfinite(chunk).all():
            raise ValueError("chunk with NaN or infinite values: expected finite numbers")
        total, steps, is_over = 0.0, 0, False
        while not is_over and steps < len(chunk):
            reward, terminated, truncated, info = self.env.advance(chunk[steps])
            total, steps, is_over = total + reward, steps + 1, terminated or truncated
        return self.env.observe(), total, terminated, truncated, info | {"steps": steps}
