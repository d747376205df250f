"""`train --model.type=lewm`: resumes to the bit, loads as it was saved, is diagnosed and planned over."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.errors import UserError
from embodied.evaluation.diagnostics.holders import load_held
from embodied.evaluation.world_model_loading import load_world_model
from embodied.training.loop import train
from embodied.training.world_models import JEPAModelConfig, LeWMModelConfig
from policies.latent_mpc.configuration_latent_mpc import LatentMPCConfig
from policies.latent_mpc.modeling_latent_mpc import LatentMPCPolicy
from tests.lewm import SMALL


@pytest.fixture
def configure(tmp_path: Path, dataset_root: Path) -> Callable[..., TrainConfig]:
    def build(**changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": LeWMModelConfig(device="cpu", **SMALL),
            "dataset": DatasetConfig(root=dataset_root),
            "output_dir": tmp_path / "run",
            "optimizer": OptimizerConfig(warmup_steps=1),
            "steps": 1,
            "batch_size": 4,
        }
        return TrainConfig(**settings | changes)

    return build


def test_two_steps_and_two_resumed_ones_equal_four_steps(configure: Callable, tmp_path: Path) -> None:
    straight = configure(output_dir=tmp_path / "straight", steps=4, save_freq=2)
    train(straight)
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "straight", stopped, symlinks=True)
    shutil.rmtree(stopped / "checkpoints" / "000004")
    (stopped / "checkpoints" / "last").unlink()
    torch.rand(3)
    train(dataclasses.replace(straight, output_dir=stopped, resume=True))
    expected, found = (
        load_file(folder / "checkpoints" / "000004" / "model.safetensors")
        for folder in (tmp_path / "straight", stopped)
    )
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_a_checkpoint_is_loaded_diagnosed_and_planned_over(configure: Callable) -> None:
    folder = Path(train(configure())["checkpoint"])
    world = load_world_model(folder, "cpu")
    pictures = {camera: torch.rand(2, 3, 32, 32) for camera in world.features.cameras}
    latents, chunks = world.see(pictures), torch.randn(2, 5, 2, world.features.action_dim)
    assert latents.shape == (2, 1, 16)
    expected = world.model.rollout(latents[:, None], chunks)
    held = load_held(folder, "cpu", []).world
    assert torch.equal(held.encode(pictures, torch.zeros(2, 1)), latents)
    assert torch.equal(held.rollout(latents[:, None], chunks), expected)
    assert not torch.equal(held.untrained(seed=0)(pictures, torch.zeros(2, 1)), latents)
    planner = LatentMPCPolicy(LatentMPCConfig(world_model_path=folder, device="cpu")).eval()
    assert torch.equal(planner.world.rollout(latents[:, None], chunks), expected)
    with pytest.raises(ValueError, match=r"--policy.reward_weight=1 .*: the world model reads no outcomes"):
        LatentMPCPolicy(LatentMPCConfig(world_model_path=folder, device="cpu", reward_weight=1.0))


def test_our_policies_start_from_our_world_models_alone(
    configure: Callable, vla_config: Callable, tmp_path: Path
) -> None:
    folder = Path(train(configure())["checkpoint"])
    config = configure(output_dir=tmp_path / "policy")
    policy = vla_config(world_model_path=folder)
    with pytest.raises(UserError, match=r"--policy.world_model_path: .* holds no jepa"):
        train(dataclasses.replace(config, model=None, policy=policy))


def test_the_network_is_that_of_its_configuration() -> None:
    """Every kind of world model has the flags of all, and its own."""
    for config, own in ((JEPAModelConfig, "goal_dim"), (LeWMModelConfig, "sigreg_weight")):
        names = {item.name for item in dataclasses.fields(config)}
        assert {"device", "actions", "chunk_steps", "rollout_steps", own} <= names
        assert own in (config.__doc__ or "")
