"""An untrained `latent_vla` for the point as a checkpoint, and a data set of that environment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.utils import env_to_policy_features
from lerobot.policies.factory import make_pre_post_processors

from embodied.evaluation.policy_loading import LoadedPolicy
from policies.latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from tests.fake_envs import SIZE, PointEnvConfig

TINY = {"dim": 16, "depth": 1, "heads": 2, "head_dim": 16, "head_depth": 1, "head_heads": 2, "num_latents": 2}
TINY |= {"dynamics_depth": 1, "dynamics_heads": 2, "action_tokens": 1, "latent_heads": 2}
THINKING = {
    "chunk_size": 3,
    "n_action_steps": 3,
    "world_model": True,
    "imagination": "latent",
    "candidates": 4,
}
LENGTH = 8


@pytest.fixture
def make_loaded() -> Callable[..., LoadedPolicy]:
    """Builds (policy, preprocessor, postprocessor) with fixed weights; keywords override the config."""

    def make(**overrides: Any) -> LoadedPolicy:
        features = env_to_policy_features(PointEnvConfig())
        config = LatentVLAConfig(device="cpu", **{**TINY, **THINKING, **overrides})
        config.input_features = {k: f for k, f in features.items() if f.type is not FeatureType.ACTION}
        config.output_features = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
        torch.manual_seed(0)
        policy = LatentVLAPolicy(config).eval()
        for parameter in policy.parameters():  # an untrained one foresees no change
            parameter.data += 0.05 * torch.randn(parameter.shape)
        unit = {"mean": torch.zeros(2), "std": torch.ones(2)}
        stats = {"observation.state": unit, "action": unit}
        return policy, *make_pre_post_processors(config, dataset_stats=stats)

    return make


@pytest.fixture
def save_checkpoint(tmp_path: Path, make_loaded: Callable[..., LoadedPolicy]) -> Callable[..., Path]:
    """Writes a policy as LeRobot's trainer does, into a folder without a manifest."""

    def save(**overrides: Any) -> Path:
        for part in make_loaded(**overrides):
            part.save_pretrained(tmp_path / "checkpoint")
        return tmp_path / "checkpoint"

    return save


@pytest.fixture(scope="session")
def point_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of the point going right; not to be changed."""
    root = tmp_path_factory.mktemp("data") / "point"
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    dataset = LeRobotDataset.create(
        "local/point",
        fps=PointEnvConfig().fps,
        features={
            "observation.images.corner": picture,
            "observation.state": dict(vector),
            "action": dict(vector),
        },
        root=root,
        use_videos=False,
    )
    env = PointEnvConfig().env_fn("east", length=100)()
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        for _ in range(LENGTH):
            action = np.float32([0.8, 0])
            row = {"observation.images.corner": observation["pixels"]["corner"], "action": action}
            dataset.add_frame({**row, "observation.state": observation["agent_pos"], "task": "go east"})
            observation = env.step(action)[0]
        dataset.save_episode()
    dataset.finalize()
    return root
