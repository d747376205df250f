"""A policy starts from a world model: what is copied, what is refused, and what is needed later."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.world_model_loading import load_world_model
from embodied.training.initialisation import start_from_world_model
from embodied.training.loop import train
from embodied.training.world_models import JEPAModelConfig
from policies.latent_vla import LatentVLAConfig

SIZES = {"num_latents": 3, "latent_heads": 2, "dim": 32, "dynamics_depth": 1, "dynamics_heads": 2}

Train = Callable[..., Path]


@pytest.fixture
def train_one(tmp_path: Path, dataset_root: Path) -> Train:
    """Train a policy or a world model for a step into a folder; returns the folder."""

    def run(folder: str, trained: LatentVLAConfig | JEPAModelConfig, **changes: Any) -> Path:
        which = "policy" if isinstance(trained, LatentVLAConfig) else "model"
        settings: dict[str, Any] = {
            "dataset": DatasetConfig(root=dataset_root),
            "output_dir": tmp_path / folder,
            "steps": 1,
            "batch_size": 4,
        }
        train(TrainConfig(**{which: trained}, **(settings | changes)))
        return tmp_path / folder

    return run


def world_config(**changes: Any) -> JEPAModelConfig:
    settings = {"device": "cpu", "chunk_steps": 4, **SIZES}
    return JEPAModelConfig(**(settings | changes))


@pytest.fixture
def policy_config(vla_config: Callable) -> Callable[..., LatentVLAConfig]:
    """A policy with the latents of `world_config`."""

    def build(**changes: Any) -> LatentVLAConfig:
        return vla_config(**({"world_model": True, **SIZES} | changes))

    return build


def start(policy_folder: Path, world_folder: Path) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """The policy started from the world model, that model, and the policy's dynamics before."""
    policy: Any = load_policy(policy_folder, "cpu")[0]
    before = {name: value.clone() for name, value in policy.foresight.model.dynamics.state_dict().items()}
    world = load_world_model(world_folder, "cpu")
    start_from_world_model(policy, world)
    return policy, world.model, before


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_tower_queries_and_equal_dynamics_are_copied(train_one: Train, policy_config: Callable) -> None:
    policy, world, before = start(train_one("policy", policy_config()), train_one("world", world_config()))
    assert same(policy.encoder.state_dict(), world.encoder.state_dict())
    assert same(policy.foresight.model.dynamics.state_dict(), world.model.dynamics.state_dict())
    assert not same(policy.foresight.model.dynamics.state_dict(), before)


@pytest.mark.parametrize("other", [{"actions": False}, {"dynamics_depth": 2}, {"history": 2}])
def test_other_dynamics_leave_the_policys_own(
    train_one: Train, policy_config: Callable, other: dict[str, Any]
) -> None:
    """A world model of films, or of another depth, gives what it sees with and no more."""
    world_folder = train_one("world", world_config(**other))
    policy, world, before = start(train_one("policy", policy_config()), world_folder)
    assert same(policy.encoder.state_dict(), world.encoder.state_dict())
    assert same(policy.foresight.model.dynamics.state_dict(), before)


@pytest.mark.parametrize("world_model", [True, False])
def test_training_starts_there_and_needs_it_only_then(
    train_one: Train, policy_config: Callable, dataset_root: Path, tmp_path: Path, world_model: bool
) -> None:
    """Without a learning rate the encoder stays as it was given; later the world model is not missed."""

    world_folder = train_one("world", world_config())
    encoder = load_world_model(world_folder, "cpu").model.encoder.state_dict()
    still = OptimizerConfig(lr=0.0, ema_decay=0.0)
    config = policy_config(world_model_path=world_folder, world_model=world_model)
    folder = train_one("policy", config, optimizer=still)
    shutil.rmtree(world_folder)
    policy: Any = load_policy(folder, "cpu")[0]
    assert same(policy.encoder.state_dict(), encoder)
    train_one("policy", config, optimizer=still, steps=2, resume=True)


def test_resuming_from_another_start_is_refused(train_one: Train, policy_config: Callable) -> None:
    world_folder = train_one("world", world_config())
    train_one("policy", policy_config(world_model_path=world_folder))
    with pytest.raises(UserError, match=r"--policy\.world_model_path=None: expected .*world as in"):
        train_one("policy", policy_config(), steps=2, resume=True)


@pytest.mark.parametrize(
    ("world", "data", "named"),
    [
        ({"num_latents": 4}, {}, "has latents 4x32 with 2 heads: expected the policy's 3x32 with 2 heads"),
        ({"tower": "strided12"}, {}, "has image tower strided12: expected the policy's strided24"),
        (
            {},
            {"cameras": "gripper"},
            "has cameras observation.images.corner, observation.images.gripper: "
            "expected the policy's observation.images.gripper",
        ),
    ],
)
def test_a_world_model_of_another_kind_is_refused(
    train_one: Train,
    policy_config: Callable,
    dataset_root: Path,
    tmp_path: Path,
    world: dict[str, Any],
    data: dict[str, Any],
    named: str,
) -> None:
    """One line with both values, before anything is written."""
    world_folder = train_one("world", world_config(**world))
    config = policy_config(world_model_path=world_folder)
    with pytest.raises(UserError) as refusal:
        train_one("policy", config, dataset=DatasetConfig(root=dataset_root, **data))
    assert str(refusal.value).startswith("--policy.world_model_path: ")
    assert named in str(refusal.value)
    assert not (tmp_path / "policy").exists()


def test_a_world_model_of_another_action_size_is_refused(train_one: Train, policy_config: Callable) -> None:
    policy: Any = load_policy(train_one("policy", policy_config()), "cpu")[0]
    world = load_world_model(train_one("world", world_config()), "cpu")
    arm = {"action": dataclasses.replace(world.features.output_features["action"], shape=(7,))}
    seven = dataclasses.replace(world, features=dataclasses.replace(world.features, output_features=arm))
    with pytest.raises(UserError, match="has action size 7: expected the policy's 4"):
        start_from_world_model(policy, seven)


def test_a_policy_that_sees_with_a_vlm_is_refused(train_one: Train, policy_config: Callable) -> None:
    policy: Any = load_policy(train_one("policy", policy_config()), "cpu")[0]
    policy.encoder, policy.config.backbone = torch.nn.Identity(), "pretrained"
    world = load_world_model(train_one("world", world_config()), "cpu")
    with pytest.raises(UserError, match=r"--policy\.backbone=pretrained: expected scratch with"):
        start_from_world_model(policy, world)


def test_whoever_does_not_read_the_path_refuses_it(policy_config: Callable) -> None:
    """LeRobot's own trainer builds policies straight from their configuration."""
    with pytest.raises(ValueError, match=r"--policy\.world_model_path=world: only `embodied train` reads it"):
        policy_config(world_model_path=Path("world")).validate_features()
