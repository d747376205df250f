"""A data set small enough to train on in seconds, and a policy of LeRobot's own to train."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig

SIZE = 32
EPISODES = 4
FRAMES = 12


def write_dataset(root: Path, seed: int) -> Path:
    """Two 32x32 cameras, state and action of size 4, two instructions, 4 episodes of 12 frames."""
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.images.corner": dict(picture),
        "observation.images.gripper": dict(picture),
        "observation.state": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
        "action": {"dtype": "float32", "shape": (4,), "names": ["dx", "dy", "dz", "force"]},
    }
    dataset = LeRobotDataset.create("local/tiny", fps=80, features=features, root=root, use_videos=False)
    draw = np.random.default_rng(seed)
    for episode in range(EPISODES):
        for frame in range(FRAMES):
            dataset.add_frame(
                {
                    "observation.images.corner": draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
                    "observation.images.gripper": draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
                    "observation.state": draw.normal(size=4).astype(np.float32),
                    "action": np.full(4, np.sin(frame), dtype=np.float32)
                    + draw.normal(size=4).astype(np.float32) / 10,
                    "task": ["reach the ball", "open the drawer"][episode % 2],
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set, written once."""
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another recording of the same kind."""
    return write_dataset(tmp_path_factory.mktemp("data") / "other", seed=1)


@pytest.fixture
def act_config() -> Callable[..., ACTConfig]:
    """LeRobot's ACT, tiny beside its ResNet, without downloaded weights; arguments change its fields."""

    def build(**changes: object) -> ACTConfig:
        settings: dict = {
            "device": "cpu",
            "push_to_hub": False,
            "pretrained_backbone_weights": None,
            "chunk_size": 4,
            "n_action_steps": 4,
            "dim_model": 32,
            "n_heads": 2,
            "dim_feedforward": 64,
            "n_encoder_layers": 1,
            "n_vae_encoder_layers": 1,
            "latent_dim": 4,
        }
        return ACTConfig(**(settings | changes))

    return build


@pytest.fixture
def vla_config() -> Callable[..., LatentVLAConfig]:
    """Our own policy, tiny; arguments change its fields."""

    def build(**changes: object) -> LatentVLAConfig:
        settings: dict = {
            "device": "cpu",
            "chunk_size": 4,
            "n_action_steps": 4,
            "action_tokens": 2,
            "num_latents": 3,
            "dim": 32,
            "depth": 2,
            "heads": 2,
            "head_dim": 32,
            "head_depth": 2,
            "head_heads": 2,
        }
        return LatentVLAConfig(**(settings | changes))

    return build
