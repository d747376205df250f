"""Tiny policies for the fake environment: LeRobot's ACT, which is deterministic, and ours, which is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.configs.types import FeatureType
from lerobot.envs.utils import env_to_policy_features
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from policies.latent_vla import LatentVLAConfig
from tests.fake_envs import PointEnvConfig

ACT = {
    "chunk_size": 4,
    "n_action_steps": 3,
    "dim_model": 16,
    "n_heads": 2,
    "dim_feedforward": 16,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
    "pretrained_backbone_weights": None,
    "push_to_hub": False,
}
LATENT_VLA = {
    "dim": 16,
    "depth": 1,
    "heads": 2,
    "head_dim": 16,
    "head_depth": 1,
    "head_heads": 2,
    "num_latents": 2,
    "temperature": 1.0,
}
CONFIGS = {"act": (ACTConfig, ACT), "latent_vla": (LatentVLAConfig, LATENT_VLA)}
LoadedPolicy = tuple[Any, Any, Any]


@pytest.fixture
def make_loaded() -> Callable[..., LoadedPolicy]:
    """Builds (policy, preprocessor, postprocessor) with fixed weights; keywords override the config."""

    def make(kind: str = "act", **overrides: Any) -> LoadedPolicy:
        config_class, sizes = CONFIGS[kind]
        features = env_to_policy_features(PointEnvConfig())
        config = config_class(device="cpu", **{**sizes, **overrides})
        config.input_features = {k: f for k, f in features.items() if f.type is not FeatureType.ACTION}
        config.output_features = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
        torch.manual_seed(0)
        policy = get_policy_class(config.type)(config).eval()
        unit = {"mean": torch.zeros(2), "std": torch.ones(2)}
        picture = {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}
        stats = {"observation.state": unit, "action": unit, "observation.images.corner": picture}
        return policy, *make_pre_post_processors(config, dataset_stats=stats)

    return make


@pytest.fixture
def save_checkpoint(tmp_path: Path, make_loaded: Callable[..., LoadedPolicy]) -> Callable[..., Path]:
    """Writes a policy as LeRobot's trainer does, into a folder without a manifest."""

    def save(kind: str = "act", **overrides: Any) -> Path:
        folder = tmp_path / kind
        for part in make_loaded(kind, **overrides):
            part.save_pretrained(folder)
        return folder

    return save
