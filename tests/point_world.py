"""The exact world model of `tests.fake_envs.PointEnv`: latents are positions, so that every plan is known.

Written by hand: the picture's brightness is x, actions move by a tenth of themselves, value is x.
"""

from pathlib import Path
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from torch import Tensor

from policies.latent_mpc.configuration_latent_mpc import LatentMPCConfig, WorldSpecification
from policies.latent_mpc.modeling_latent_mpc import LatentMPCPolicy
from policies.latent_mpc.worlds import World
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.normalization import NORMALIZATION
from tests.fake_envs import SIZE
from world_models.outcomes import Outcomes

CAMERA = "observation.images.corner"
INPUTS = {
    CAMERA: PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)),
    "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
}
OUTPUTS = {"action": PolicyFeature(FeatureType.ACTION, (2,))}


class PointWorld(World):
    """K = D = 1: the latent is x. It imagines going east by `stride` per chunk."""

    def __init__(self, description: dict[str, Any], weights: Path | None) -> None:
        super().__init__()
        self.register_buffer("stride", torch.tensor(float(description["stride"])))
        self.specification = WorldSpecification(
            input_features=INPUTS,
            output_features=OUTPUTS,
            history=description.get("history", 1),
            chunk_size=3,
            n_action_steps=3,
            imagines=description.get("imagines", True),
            inverts=description.get("inverts", True),
            judges=True,
        )

    def encode(self, images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3, 4)) * 255 - 128).view(-1, 1, 1) / 127

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        moved = 0.1 * chunks[..., 0].sum(2).cumsum(1)
        return history[:, -1:] + moved[..., None, None]

    def outcomes(self, latents: Tensor, description: Tensor) -> Outcomes:
        return Outcomes(reward=latents[:, 0, 0], value=latents[:, 0, 0] * description[:, 0])

    def describe(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.ones(len(batch[CAMERA]), 1)

    def inverse(self, latents: Tensor, goal: Tensor) -> Tensor:
        """A third of the way at each of three steps, as far as an action of at most 1 takes one."""
        east = ((goal - latents)[:, 0] / 0.3).clamp(-1, 1).expand(-1, 3)
        return torch.stack([east, torch.zeros_like(east)], dim=2)

    def imagine(self, batch: dict[str, Tensor], latents: Tensor, states: Tensor) -> Tensor:
        return latents[:, -1:] + self.stride * torch.arange(1, 3)[:, None, None]


def picture(*xs: float) -> Tensor:
    """What the camera sees of points at these x, (B, 3, SIZE, SIZE) in [0, 1]."""
    brightness = (128 + 127 * torch.tensor(xs)) / 255
    return brightness[:, None, None, None].expand(-1, 3, SIZE, SIZE)


def make_point_policy(**overrides: Any) -> LatentMPCPolicy:
    """A planner in that world; its actions are bounded by the environment's."""
    settings = {"candidates": 64, "iterations": 6, "elites": 8, "action_limit": 1.0, "device": "cpu"}
    world = {"type": "point", "stride": 0.1, **overrides.pop("world", {})}
    return LatentMPCPolicy(LatentMPCConfig(world_model=world, **{**settings, **overrides})).eval()


def point_processors() -> tuple[Any, Any]:
    """Processors that leave positions and actions as they are."""
    config = LatentVLAConfig(device="cpu", input_features=INPUTS, output_features=OUTPUTS)
    unit = {"mean": torch.zeros(2), "std": torch.ones(2)}
    assert config.normalization_mapping == NORMALIZATION
    return make_pre_post_processors(config, dataset_stats={"observation.state": unit, "action": unit})
