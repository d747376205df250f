"""What success costs nothing, and what can be reached at all, on the same seeds as the policy.

Floors are agents that look at nothing: a whole episode is one chunk, so nothing is rendered but its ends. The
scripted expert sees the simulator's state, and nothing is rendered at all.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from embodied.rollout import Episode, EpisodeResult
from envs.simulated import Expert, SimulatedEnv


class _Blind:
    stateful = False
    sociable = False

    def __init__(self, chunk_steps: int, actions_are_targets: bool) -> None:
        self.chunk_steps = chunk_steps
        self._actions_are_targets = actions_are_targets

    def begin(self, action_space: gym.spaces.Box) -> None:
        """Note the bounds of an action."""
        self._low = action_space.low.astype(np.float32)
        self._high = action_space.high.astype(np.float32)


class RandomAgent(_Blind):
    """Uniform actions, drawn from each environment's seed."""

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Draw chunks (B, n, A)."""
        generators = [
            np.random.default_rng([episode.seed, look]) for episode, look in zip(episodes, looks, strict=True)
        ]
        return np.stack([generator.uniform(self._low, self._high) for generator in generators])


class NoopAgent(_Blind):
    """Stays: zeros at every step or, where actions are targets, the position at the start."""

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Return chunks (B, n, A), the same action throughout."""
        chunks = np.zeros((len(episodes), *self._low.shape), dtype=np.float32)
        if self._actions_are_targets:
            chunks += observation["agent_pos"][:, None, :]
        return chunks


FLOORS = {"random": RandomAgent, "noop": NoopAgent}

EXPERT = "expert"


def run_expert(env: SimulatedEnv, expert: Expert, episode: Episode) -> EpisodeResult:
    """One episode of the task's scripted expert, in an environment of that task."""
    env.restart(seed=episode.seed)
    result = EpisodeResult(episode=episode, instruction=env.task_description)
    expert.reset()
    is_over = False
    while not is_over:
        reward, terminated, truncated, info = env.advance(expert.act(env.privileged_state()))
        is_over = terminated or truncated
        result.steps += 1
        result.reward += float(reward)
        result.success |= bool(info["is_success"])
    return result
