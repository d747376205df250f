"""A decider as the agent of a rollout, so that an export is evaluated as its checkpoint is.

B episodes, n steps executed per decision, A action size.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from embodied.rollout import Episode
from embodied.serving.runner import Request
from embodied.serving.sessions import Decider, Past, draw_noise


class DeciderAgent:
    """Executes the first n_action_steps of each chunk; noise as `ChunkAgent` draws it. Implements `Agent`.

    Decides for one episode after another, each with a past of its own: not stateful as rollouts mean it.
    """

    stateful = False

    def __init__(self, decider: Decider, mode: str) -> None:
        self._decider, self._mode = decider, mode
        self.chunk_steps = decider.specification.n_action_steps
        self._pasts: dict[tuple[str, int], Past] = {}

    def begin(self, action_space: gym.spaces.Box) -> None:
        """Forget the episodes before."""
        self._pasts.clear()

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Choose chunks (B, n, A)."""
        chunks = []
        shape = self._decider.noise_shape(self._mode)
        for row, (episode, look) in enumerate(zip(episodes, looks, strict=True)):
            key = (episode.task, episode.seed)
            request = Request(
                session=f"{episode.task} {episode.seed}",
                images={camera: pictures[row] for camera, pictures in observation["pixels"].items()},
                state=observation["agent_pos"][row].astype(np.float32),
                task=instructions[row],
            )
            noise = draw_noise(shape, episode.seed, look)[None]
            past = self._pasts.get(key) if look else None
            outcome = self._decider.decide(self._mode, [request], noise, [past])
            self._pasts[key] = outcome.past[0]
            chunks.append(outcome.actions[0, : self.chunk_steps])
        return np.stack(chunks)
