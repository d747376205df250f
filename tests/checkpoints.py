"""Checkpoints of tiny, untrained policies, complete with specification and manifest, and data for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_pre_post_processors

from embodied.manifest import write_json, write_manifest
from embodied.training.checkpoint import SPECIFICATION
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.relative_actions import RELATIVE_ACTION

SIZE = 32
CAMERAS = ("corner", "gripper")
JOINTS = ["waist", "elbow", "gripper"]
SMALL = {"dim": 16, "depth": 1, "heads": 2, "head_dim": 16, "head_depth": 2, "head_heads": 2}
THINKING = {"imagination": "latent", "imagined_steps": 2, "world_model": True, "dynamics_heads": 2}
FEATURES = {"observation.state": {"names": JOINTS}, "action": {"names": JOINTS}}


class Metadata:
    """Of a data set, as far as processors of relative actions ask."""

    features = FEATURES


def save_checkpoint(folder: Path, **overrides: Any) -> Path:
    """Write a policy of two 32 px cameras and three joints; overrides: of its configuration."""
    config = LatentVLAConfig(
        device="cpu",
        input_features={
            **{
                f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE))
                for name in CAMERAS
            },
            "observation.state": PolicyFeature(FeatureType.STATE, (3,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (3,))},
        **{**SMALL, "num_latents": 2, "latent_heads": 2, "temperature": 1.0, **overrides},
    )
    torch.manual_seed(0)
    policy = LatentVLAPolicy(config).eval()
    for parameter in policy.parameters():  # what starts at zero would hide what it takes part in
        torch.nn.init.normal_(parameter, std=0.2)
    statistics = {
        "observation.state": _statistics([1.0, -2.0, 3.0], [0.5, 2.0, 4.0]),
        "action": _statistics([0.1, 0.2, 0.3], [2.0, 3.0, 0.5]),
        RELATIVE_ACTION: _statistics([0.0, 0.1, 0.2], [1.0, 2.0, 0.5]),
    }
    processors = make_pre_post_processors(config, dataset_stats=statistics, dataset_meta=Metadata())
    for part in (policy, *processors):
        part.save_pretrained(folder)
    signals = {"shape": [3], "names": JOINTS, "min": [-5.0] * 3, "max": [5.0] * 3}
    pictures = {
        f"observation.images.{name}": {"kind": "VISUAL", "shape": [3, SIZE, SIZE]} for name in CAMERAS
    }
    specification = {
        "rate_hz": 30,
        "robot_type": "aloha",
        "observation": {**pictures, "observation.state": {"kind": "STATE", **signals}},
        "action": {"action": {"kind": "ACTION", **signals}},
        "instructions": ["open the drawer"],
    }
    write_json(folder / SPECIFICATION, specification)
    write_manifest(folder)
    return folder


def _statistics(mean: list[float], deviation: list[float]) -> dict[str, torch.Tensor]:
    return {"mean": torch.tensor(mean), "std": torch.tensor(deviation)}


def save_dataset(root: Path, episodes: int = 3, frames: int = 12) -> Path:
    """Random looks and actions of the robot that `save_checkpoint` writes policies for."""
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    numbers = {"dtype": "float32", "shape": (3,), "names": JOINTS}
    features = {f"observation.images.{name}": dict(picture) for name in CAMERAS}
    features |= {"observation.state": dict(numbers), "action": dict(numbers)}
    dataset = LeRobotDataset.create("local/tiny", fps=30, features=features, root=root, use_videos=False)
    draw = np.random.default_rng(0)
    for episode in range(episodes):
        for _ in range(frames):
            pictures = {
                f"observation.images.{name}": draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                for name in CAMERAS
            }
            values = {
                name: draw.normal(size=3).astype(np.float32) for name in ("observation.state", "action")
            }
            task = ["öffne die Schublade", "reach"][episode % 2]
            dataset.add_frame({**pictures, **values, "task": task})
        dataset.save_episode()
    dataset.finalize()
    return root
