"""The world model that is looked into, whatever holds it, and what it expects of pictures and actions.

B scenes, V cameras, T history moments, K latent tokens, D width, N chunks of h environment steps, A action
size, C candidates, F frames, H, W picture size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lerobot.envs.utils import env_to_policy_features, preprocess_observation
from torch import Tensor

from embodied.data.cache import FrameCache, picture_shape
from embodied.errors import UserError
from embodied.evaluation.policy_loading import LoadedPolicy, check_fits, load_policy
from embodied.lerobot_plugin import SimulatedEnvConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy, stack_cameras

Encode = Callable[[Mapping[str, Tensor]], Tensor]
"""From pictures, per camera (B, 3, H, W) in [0, 1], to latents (B, K, D)."""

Observation = dict[str, Any]
"""As an environment gives it: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (S,)."""

ENCODED_AT_ONCE = 64


class WorldModelUnderTest(Protocol):
    """Sees and predicts. Pictures go by their names in data sets, actions are in their own units.

    cameras: per name (channels, height, width), in the model's order; action_size: A; history: T moments,
    `stride` environment steps apart, the present last; chunk_steps: h.
    """

    cameras: Mapping[str, tuple[int, ...]]
    action_size: int
    history: int
    stride: int
    chunk_steps: int
    device: torch.device

    def encode(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """Latents (B, K, D) of pictures, per camera (B, 3, H, W) in [0, 1]."""
        ...

    def untrained(self, seed: int) -> Encode:
        """An encoder of the same architecture that has learned nothing."""
        ...

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) as `rollout` takes them."""
        ...

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A), normalised. Returns (B, N, K, D)."""
        ...


class Proposer(Protocol):
    """Proposes chunks for a scene and scores them by what a world model foresees."""

    noise_shape: tuple[int, int]
    """(H, A) of one candidate."""

    exploration: float
    """The share of candidates, the last ones, that are proposed as failed episodes acted."""

    def propose(
        self, looks: Sequence[Observation], instruction: str, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """looks: T, the present last; noise: (C, H, A). Chunks (C, H, A) in their own units, scores (C,)."""
        ...


class PolicyWorldModel:
    """The world model inside a `latent_vla` policy: implements `WorldModelUnderTest` and `Proposer`."""

    def __init__(self, policy: LatentVLAPolicy, preprocessor: Any, postprocessor: Any) -> None:
        assert policy.foresight is not None
        config = policy.config
        self._policy, self._world = policy, policy.foresight.model
        self._preprocessor, self._postprocessor = preprocessor, postprocessor
        self.cameras: Mapping[str, tuple[int, ...]] = {
            name: tuple(feature.shape) for name, feature in config.image_features.items()
        }
        self.action_size, self.history = config.action_size, config.n_obs_steps
        self.stride, self.chunk_steps = config.n_action_steps, config.chunk_size
        self.noise_shape = (config.chunk_size, config.action_size)
        self.exploration = config.exploration
        self.device = torch.device(str(config.device))
        # Un-normalising is affine, and says how to normalise.
        self._offset = postprocessor(torch.zeros(1, self.action_size)).cpu()
        self._unit = postprocessor(torch.ones(1, self.action_size)).cpu() - self._offset

    def encode(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """Latents (B, K, D) of pictures, per camera (B, 3, H, W) in [0, 1]."""
        return _encode(self._policy, pictures)

    def untrained(self, seed: int) -> Encode:
        """An encoder of the same architecture that has learned nothing."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = LatentVLAPolicy(self._policy.config).to(self.device).eval()
        return lambda pictures: _encode(fresh, pictures)

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) as `rollout` takes them."""
        return ((actions - self._offset[0]) / self._unit[0]).to(self.device)

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A), normalised. Returns (B, N, K, D)."""
        return self._world.rollout(history, chunks)

    def propose(
        self, looks: Sequence[Observation], instruction: str, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """looks: T, the present last; noise: (C, H, A). Chunks (C, H, A) in their own units, scores (C,)."""
        stacked = {
            "pixels": {
                camera: np.stack([look["pixels"][camera] for look in looks]) for camera in looks[0]["pixels"]
            },
            "agent_pos": np.stack([look["agent_pos"] for look in looks]),
        }
        batch: dict[str, Any] = preprocess_observation(stacked)
        if self.history > 1:
            batch = {key: value.unsqueeze(0) for key, value in batch.items()}
        batch = self._preprocessor({**batch, "task": [instruction]})
        draws = torch.from_numpy(noise[None]).to(self.device)
        with torch.inference_mode():
            chunks, scores = self._policy.propose(batch, draws)
            return self._postprocessor(chunks[0].float()).numpy(), scores[0].float().cpu().numpy()


def _encode(policy: LatentVLAPolicy, pictures: Mapping[str, Tensor]) -> Tensor:
    images = stack_cameras([pictures[key] for key in policy.config.image_features])
    return policy.encoder.encode(images.to(str(policy.config.device))).float()


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A world model, what proposes chunks and acts with it if anything does, and the policy that acts."""

    world: WorldModelUnderTest
    proposer: Proposer | None
    policy: LoadedPolicy | None


def load_model(path: Path, device: str | None) -> LoadedModel:
    """Load a checkpoint that holds a world model; raises UserError for one that does not."""
    loaded = load_policy(path, device)
    policy = loaded[0]
    if not isinstance(policy, LatentVLAPolicy) or policy.foresight is None:
        held = f"a {policy.config.type} without a world model"
        raise UserError(f"--model.path={path}: holds {held}: expected latent_vla with world_model=true")
    world = PolicyWorldModel(policy, *loaded[1:])
    return LoadedModel(world=world, proposer=world, policy=loaded)


def check_env(model: LoadedModel, env: SimulatedEnvConfig) -> None:
    """Raise UserError unless the model's cameras and action are the environment's."""
    if model.policy is not None:
        check_fits(model.policy[0].config, env)
    offered = env_to_policy_features(env)
    _check(model.world, {name: tuple(feature.shape) for name, feature in offered.items()}, "the environment")


def check_dataset(world: WorldModelUnderTest, cache: FrameCache) -> None:
    """Raise UserError unless the model's cameras and action are the data set's."""
    shapes = {name: tuple(feature["shape"]) for name, feature in cache.features.items()}
    for name in cache.images:
        height, width, channels = picture_shape(cache.features[name])
        shapes[name] = (channels, height, width)
    _check(world, shapes, f"--dataset.root={cache.root}")


def _check(world: WorldModelUnderTest, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in {**world.cameras, "action": (world.action_size,)}.items():
        if name not in found:
            cameras = ", ".join(key for key in found if "images" in key) or "none"
            raise UserError(f"world model's {name}: expected it in {where}, found {cameras}")
        if found[name] != shape:
            sizes = " and ".join("x".join(map(str, size)) for size in (shape, found[name]))
            raise UserError(f"world model's {name} and that of {where} are {sizes}: expected the same")


@torch.inference_mode()
def see(encode: Encode, pictures: Mapping[str, np.ndarray]) -> Tensor:
    """Latents (F, K, D) of frames, on the CPU. pictures: per camera (F, H, W, 3) uint8."""
    count = len(next(iter(pictures.values())))
    parts = []
    for start in range(0, count, ENCODED_AT_ONCE):
        rows = slice(start, start + ENCODED_AT_ONCE)
        batch = {
            name: torch.from_numpy(np.ascontiguousarray(frames[rows])) for name, frames in pictures.items()
        }
        parts.append(
            encode({name: frames.movedim(-1, -3).float() / 255 for name, frames in batch.items()}).cpu()
        )
    return torch.cat(parts)
