"""Two processes train what one trains on the joint batch, and their checkpoints are its own."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
from safetensors.torch import load_file

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.errors import UserError
from embodied.manifest import write_json
from embodied.training.loop import train

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NOT_SHARED = ("data_fraction", "samples_per_s", "effective_rank", "variance")
"""Columns of a log that say something about a process or about its rows alone."""


@pytest.fixture
def configure(tmp_path: Path, dataset_root: Path) -> Callable[..., TrainConfig]:
    """A run on a joint batch of eight; episodes of several lengths, so that padding is spread unevenly."""

    def build(name: str, **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "dataset": DatasetConfig(root=dataset_root, augmentation="color"),
            "output_dir": tmp_path / name,
            "optimizer": OptimizerConfig(warmup_steps=0, final_lr_fraction=1.0),
            "steps": 4,
            "batch_size": 8,
            "log_freq": 1,
            "save_freq": 2,
            "mixed_precision": "no",
        }
        return TrainConfig(**(settings | changes))

    return build


def train_by_two(config: TrainConfig) -> None:
    """The run of `config` as `torchrun` starts it, half of every batch in each process."""
    half = dataclasses.replace(config, batch_size=config.batch_size // 2)
    path = config.output_dir.with_suffix(".json")
    write_json(path, draccus.encode(half))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "embodied.cli"]
    command = [sys.executable, *launch, "train", f"--config_path={path}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[:1500] + done.stderr[-3000:]


def curve(config: TrainConfig) -> dict[str, list[float]]:
    """What was logged at each step, by column."""
    lines = (config.output_dir / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {key: [row[key] for row in rows] for key in rows[0] if key not in NOT_SHARED}


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_file(config.output_dir / "checkpoints" / "last" / "model.safetensors")


def assert_alike(one: TrainConfig, other: TrainConfig) -> None:
    """The same curves and weights but for the order of sums."""
    first, second = curve(one), curve(other)
    assert first.keys() == second.keys()
    for key, values in first.items():
        assert second[key] == pytest.approx(values, rel=2e-3, abs=1e-5), key
    for name, value in weights(one).items():
        assert torch.allclose(weights(other)[name], value, atol=2e-4), name


def test_two_processes_give_the_loss_curve_of_one_on_the_joint_batch(
    configure: Callable[..., TrainConfig], memory_config: Callable
) -> None:
    """Whole episodes, imagination and SIGReg; noise, augmentation and means over real steps."""
    one, two = (configure(name, policy=memory_config()) for name in ("one", "two"))
    train(one)
    train_by_two(two)
    assert_alike(one, two)


def test_a_checkpoint_of_two_processes_is_continued_by_one(
    configure: Callable[..., TrainConfig], vla_config: Callable
) -> None:
    """Single frames: two steps by two and two by one equal four by one; half the batch is another run."""
    straight, moved = (configure(name, policy=vla_config()) for name in ("straight", "moved"))
    train(straight)
    train_by_two(dataclasses.replace(moved, steps=2))
    with pytest.raises(UserError, match="--batch_size of all processes together=4: expected 8 as in"):
        train(dataclasses.replace(moved, batch_size=4, resume=True))
    assert train(dataclasses.replace(moved, resume=True))["resumed_from"] == 2
    assert_alike(straight, moved)
