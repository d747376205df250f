"""Agents of the rollout: LeRobot policies with their processors, by whole chunks where the policy allows it.

B episodes decided for together, H action horizon, n steps executed per decision, A action size.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline

from embodied.rollout import Agent, Episode
from policies.latent_mpc.configuration_latent_mpc import goal_key

NOISE_SHAPES: dict[str, Callable[[Any], tuple[int, ...]]] = {
    "latent_mpc": lambda config: config.noise_shape,
    "latent_vla": lambda config: config.noise_shape,
    "pi0": lambda config: (config.chunk_size, config.max_action_dim),
    "pi05": lambda config: (config.chunk_size, config.max_action_dim),
    "smolvla": lambda config: (config.chunk_size, config.max_action_dim),
}
"""Policies whose `predict_action_chunk` takes the noise it denoises or searches with: a shape per episode."""

CHUNKED = ("act", *NOISE_SHAPES)
"""Policies whose `predict_action_chunk` alone gives what `select_action` would hand out one by one."""

WITH_HISTORY = ("latent_mpc", "latent_vla")
"""Of these the policies that keep their history of observations by themselves, one look per chunk."""


def make_agent(
    policy: PreTrainedPolicy, preprocessor: PolicyProcessorPipeline, postprocessor: PolicyProcessorPipeline
) -> Agent:
    """Choose how `policy` acts: by chunks where these are all it does, else by single steps."""
    config: Any = policy.config
    looks_once_per_chunk = config.type in CHUNKED and (config.n_obs_steps == 1 or config.type in WITH_HISTORY)
    ensembles = config.type == "act" and config.temporal_ensemble_coeff is not None
    if looks_once_per_chunk and not ensembles:
        return ChunkAgent(policy, preprocessor, postprocessor)
    return StepAgent(policy, preprocessor, postprocessor)


class Watch(Protocol):
    """Told of every decision."""

    def before(self, observation: dict[str, Any], batch: dict[str, Any], noise: torch.Tensor | None) -> None:
        """The observation, and what the policy is about to take of it."""
        ...

    def after(self, chunk: torch.Tensor) -> None:
        """The chunk (B, H, A) that the policy then chose, normalised."""
        ...


class _PolicyAgent:
    def __init__(
        self,
        policy: PreTrainedPolicy,
        preprocessor: PolicyProcessorPipeline,
        postprocessor: PolicyProcessorPipeline,
    ) -> None:
        self._policy: Any = policy
        self._config: Any = policy.config
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor

    def begin(self, action_space: gym.spaces.Box) -> None:
        """Forget the episodes before."""
        self._policy.reset()

    def _batch(self, observation: dict[str, Any], instructions: list[str]) -> dict[str, Any]:
        batch: dict[str, Any] = preprocess_observation(observation)
        if "goal" in observation:
            goal = preprocess_observation({"pixels": observation["goal"]})
            batch |= {goal_key(camera): picture for camera, picture in goal.items()}
        batch["task"] = instructions
        return self._preprocessor(batch)

    def _autocast(self) -> Any:
        if not self._config.use_amp:
            return nullcontext()
        return torch.autocast(device_type=torch.device(self._config.device).type)

    def _in_units(self, actions: torch.Tensor) -> np.ndarray:
        return self._postprocessor(actions.float()).cpu().numpy()


class ChunkAgent(_PolicyAgent):
    """Executes the first n_action_steps of each predicted chunk, as `select_action` would.

    Noise is drawn from (environment seed, decision), so that neither batch size nor order changes an episode.
    """

    def __init__(
        self,
        policy: PreTrainedPolicy,
        preprocessor: PolicyProcessorPipeline,
        postprocessor: PolicyProcessorPipeline,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(policy, preprocessor, postprocessor)
        self._watch = watch
        self.chunk_steps: int = self._config.n_action_steps
        goes_on = self._config.type == "latent_mpc" and self._config.goes_on
        remembers = self._config.type == "latent_vla" and self._config.memory_tokens > 0
        self.stateful: bool = self._config.n_obs_steps > 1 or goes_on or remembers
        self.sociable: bool = remembers and self._config.memory == "swapped"

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Predict chunks (B, n, A)."""
        with torch.inference_mode(), self._autocast():
            batch = self._batch(observation, instructions)
            noise = self._noise(episodes, looks)
            if self._watch is not None:
                self._watch.before(observation, batch, noise.get("noise"))
            chunk = self._policy.predict_action_chunk(batch, **noise)
            if self._watch is not None:
                self._watch.after(chunk)
            return self._in_units(chunk[:, : self.chunk_steps])

    def act_on(self, batch: dict[str, Any], episodes: list[Episode], looks: list[int]) -> np.ndarray:
        """The same for a batch of a data set, as the preprocessor takes it; nobody watches."""
        with torch.inference_mode(), self._autocast():
            noise = self._noise(episodes, looks)
            chunk = self._policy.predict_action_chunk(self._preprocessor(batch), **noise)
            return self._in_units(chunk[:, : self.chunk_steps])

    def _noise(self, episodes: list[Episode], looks: list[int]) -> dict[str, torch.Tensor]:
        if self._config.type not in NOISE_SHAPES:
            return {}
        shape = NOISE_SHAPES[self._config.type](self._config)
        noise = [
            np.random.default_rng([episode.seed, look]).standard_normal(shape, dtype=np.float32)
            for episode, look in zip(episodes, looks, strict=True)
        ]
        return {"noise": torch.from_numpy(np.stack(noise)).to(self._config.device)}


class StepAgent(_PolicyAgent):
    """Calls `select_action` at every step: for policies with a history, an ensemble or queues of their own.

    Random numbers come from torch's global generator, seeded by the first episode of each batch.
    """

    chunk_steps = 1
    stateful = True
    sociable = False

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Select one action each, (B, 1, A)."""
        if max(looks) == 0:
            torch.manual_seed(episodes[0].seed)
        with torch.inference_mode(), self._autocast():
            batch = self._batch(observation, instructions)
            return self._in_units(self._policy.select_action(batch))[:, None]
