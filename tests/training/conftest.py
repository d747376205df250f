"""A data set small enough to train on in seconds, policies to train on it, and a line to follow by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from safetensors.torch import save_model
from torch import Tensor, nn

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.training.loop import Trainer
from embodied.training.run import Run
from embodied.training.trainable import Trainable
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


@pytest.fixture
def memory_config(vla_config: Callable[..., LatentVLAConfig]) -> Callable[..., LatentVLAConfig]:
    """The same with a memory of whole episodes, a world model and imagination."""

    def build(**changes: object) -> LatentVLAConfig:
        memory = {"memory_tokens": 2, "memory_window": 4, "world_model": True, "imagination": "latent"}
        return vla_config(**(memory | changes))

    return build


class Line(nn.Module):
    """Fits y = w x + b; the loss is the mean squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.modes: list[bool] = []

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any]]:
        self.modes.append(self.training)
        loss = (self.layer(batch["x"]) - batch["y"]).square().mean()
        return loss, {"weight": self.layer.weight.detach()}


class Numbers:
    """Samples 0, 1, 2, ... in order, x a hundredth of that and y = 2 x, NaN for the sample `broken`."""

    def __init__(self, batch_size: int, broken: int = -1) -> None:
        self.batch_size, self.broken, self.cursor = batch_size, broken, 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        while True:
            first = self.cursor * self.batch_size
            self.cursor += 1
            x = torch.arange(first, first + self.batch_size).float()[:, None] / 100
            yield {"x": x, "y": torch.where(x * 100 == self.broken, torch.nan, 2 * x)}

    def state(self) -> dict[str, int]:
        return {"seed": 0, "cursor": self.cursor}


@pytest.fixture
def start(tmp_path: Path, act_config: Callable) -> Callable[..., Trainer]:
    """Build a trainer of `Line`; keyword arguments change the run's configuration or the `Trainable`."""

    def build(*, broken: int = -1, trainable: dict[str, Any] | None = None, **changes: Any) -> Trainer:
        settings: dict[str, Any] = {
            "policy": act_config(),
            "dataset": DatasetConfig(root=tmp_path),
            "output_dir": tmp_path / "run",
            "optimizer": OptimizerConfig(lr=0.1, warmup_steps=0, ema_decay=0.0),
            "steps": 4,
            "batch_size": 4,
            "mixed_precision": "no",
            "save_freq": 100,
            "log_freq": 2,
        }
        config = TrainConfig(**(settings | changes))
        config.output_dir.mkdir()
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(
            mixed_precision=config.mixed_precision, gradient_accumulation_steps=config.accumulation, cpu=True
        )
        module = Line()
        parts: dict[str, Any] = {
            "module": module,
            "preprocess": lambda batch: batch,
            "save": lambda folder: save_model(module, str(folder / "model.safetensors")),
            "delta_indices": {},
            "parameter_groups": [{"params": module.parameters()}],
            "identity": {},
            "specification": {},
        }
        run = Run(
            trainable=Trainable(**(parts | (trainable or {}))),
            loader=Numbers(config.batch_size, broken),
            augmentation="none",
            dataset={},
            settings={},
            identity={},
            checkpoint=None,
            start_step=0,
            samples_per_step=config.batch_size * config.accumulation,
            resume_command="embodied train --resume=true",
        )
        return Trainer(config, run, accelerator)

    return build
