"""What a diagnostic asks of a world model, whatever holds it, and whether it fits environment and data set.

B scenes, T history moments, K latent tokens, D width, N chunks of h environment steps, A action size,
C candidates, F frames, H, W picture size, S size of the proprioceptive state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from lerobot.envs.utils import env_to_policy_features
from torch import Tensor

from embodied.data.cache import FrameCache, picture_shape
from embodied.errors import UserError
from embodied.lerobot_plugin import SimulatedEnvConfig

Encode = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""From pictures, per camera (B, 3, H, W) in [0, 1], and proprioceptive states (B, S) to latents (B, K, D)."""

Observation = dict[str, Any]
"""As an environment gives it: "pixels", per camera (H, W, 3) uint8, and "agent_pos", (S,)."""

ENCODED_AT_ONCE = 64


class WorldModelUnderTest(Protocol):
    """Sees and predicts. Pictures go by their names in data sets, states and actions are in their own units.

    cameras: per name (channels, height, width), in the model's order; action_size: A, 0 if it knows of no
    actions; history: T moments, `stride` environment steps apart, the present last; chunk_steps: h.
    """

    cameras: Mapping[str, tuple[int, ...]]
    action_size: int
    history: int
    stride: int
    chunk_steps: int
    device: torch.device

    def encode(self, pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
        """Latents (B, K, D) of pictures, per camera (B, 3, H, W) in [0, 1], and states (B, S)."""
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
    """Proposes chunks for a scene and scores them by what a world model foresees.

    noise_shape: (h, A) of one candidate; exploration: the share of candidates, the last ones, that are
    proposed as failed episodes acted.
    """

    noise_shape: tuple[int, int]
    exploration: float

    def propose(
        self, looks: Sequence[Observation], instruction: str, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """looks: T, the present last; noise: (C, h, A). Chunks (C, h, A) in their own units, scores (C,)."""
        ...


def check_env(world: WorldModelUnderTest, env: SimulatedEnvConfig) -> None:
    """Raise UserError unless the model's cameras and action are the environment's."""
    offered = env_to_policy_features(env)
    _check(world, {name: tuple(feature.shape) for name, feature in offered.items()}, "the environment")


def check_dataset(world: WorldModelUnderTest, cache: FrameCache) -> None:
    """Raise UserError unless the model's cameras and action are the data set's."""
    shapes = {name: tuple(feature["shape"]) for name, feature in cache.features.items()}
    for name in cache.images:
        height, width, channels = picture_shape(cache.features[name])
        shapes[name] = (channels, height, width)
    _check(world, shapes, f"--dataset.root={cache.root}")


def _check(world: WorldModelUnderTest, found: Mapping[str, tuple[int, ...]], where: str) -> None:
    action = {"action": (world.action_size,)} if world.action_size else {}
    for name, shape in {**world.cameras, **action}.items():
        if name not in found:
            others = ", ".join(sorted(found))
            raise UserError(f"world model's {name}: {where} has no such feature: expected one of {others}")
        if found[name] != shape:
            sizes = " but ".join("x".join(map(str, size)) for size in (shape, found[name]))
            raise UserError(f"world model's {name} is {sizes} in {where}: expected the same")


@torch.no_grad()
def see(encode: Encode, pictures: Mapping[str, np.ndarray], states: np.ndarray) -> Tensor:
    """Latents (F, K, D) of frames, on the CPU. pictures: per camera (F, H, W, 3) uint8; states: (F, S)."""
    parts = []
    for start in range(0, len(states), ENCODED_AT_ONCE):
        rows = slice(start, start + ENCODED_AT_ONCE)
        batch = {name: torch.from_numpy(frames[rows]).movedim(-1, -3) for name, frames in pictures.items()}
        seen = {name: frames.float() / 255 for name, frames in batch.items()}
        parts.append(encode(seen, torch.from_numpy(states[rows])).float().cpu())
    return torch.cat(parts)
