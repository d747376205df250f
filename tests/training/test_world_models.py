"""`train --model.type=jepa`: learns what actions do, resumes to the bit, loads as it was saved."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from safetensors.torch import load_file

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.data.cache import FrameCache
from embodied.data.windows import gather_windows, scale_images
from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.world_model_loading import load_world_model
from embodied.training.checkpoint import verify_manifest
from embodied.training.loop import train
from embodied.training.world_models import JEPAModelConfig

SIZE = 32
CAMERA = "observation.images.top"


def write_squares(root: Path, *, actions: bool = True, state: bool = True) -> Path:
    """One 32 px camera over a white square that an action moves by up to 4 px; 8 episodes of 16 frames."""
    features: dict[str, dict] = {
        CAMERA: {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]},
        "other": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
    }
    if state:
        features["observation.state"] = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    if actions:
        features["action"] = {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]}
    dataset = LeRobotDataset.create("local/squares", fps=10, features=features, root=root, use_videos=False)
    draw = np.random.default_rng(0)
    for _ in range(8):
        place = draw.integers(8, 20, 2)
        for _ in range(16):
            move = np.where((place + 4 > 24), -4, np.where(place < 4, 4, draw.choice([-4, 4], 2)))
            picture = np.zeros((SIZE, SIZE, 3), np.uint8)
            picture[place[1] : place[1] + 8, place[0] : place[0] + 8] = 255
            frame: dict[str, Any] = {CAMERA: picture, "other": np.zeros(2, np.float32), "task": "move"}
            frame |= {"observation.state": place.astype(np.float32)} if state else {}
            frame |= {"action": move.astype(np.float32)} if actions else {}
            dataset.add_frame(frame)
            place = place + move
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares that are moved, with actions and state."""
    return write_squares(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without action and without state."""
    return write_squares(tmp_path_factory.mktemp("data") / "film", actions=False, state=False)


@pytest.fixture
def configure(tmp_path: Path, dataset_root: Path) -> Callable[..., TrainConfig]:
    """A short run of a tiny world model on two cameras; `model` changes the model, the rest the run."""

    def build(model: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        sizes: dict[str, Any] = {
            "device": "cpu",
            "num_latents": 3,
            "latent_heads": 2,
            "dim": 32,
            "dynamics_depth": 1,
            "dynamics_heads": 2,
            "chunk_steps": 2,
            "rollout_steps": 2,
            "directions": 32,
            "goal_dim": 8,
        }
        settings: dict[str, Any] = {
            "model": JEPAModelConfig(**(sizes | (model or {}))),
            "dataset": DatasetConfig(root=dataset_root),
            "output_dir": tmp_path / "run",
            "optimizer": OptimizerConfig(warmup_steps=2),
            "steps": 4,
            "batch_size": 4,
            "log_freq": 1,
        }
        return TrainConfig(**(settings | changes))

    return build


def rows(output_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    files = sorted(checkpoint.rglob("*.safetensors"))
    return {
        f"{file.relative_to(checkpoint)}:{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


# --- learning -------------------------------------------------------------------------------------


def test_it_learns_what_actions_do(configure: Callable, squares: Path, tmp_path: Path) -> None:
    """At first the world stands still; then prediction beats that by far, and the latents stay spread."""
    config = configure(
        dataset=DatasetConfig(root=squares),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=10),
        steps=150,
        batch_size=32,
        log_freq=10,
        mixed_precision="no",
    )
    train(config)
    log = rows(tmp_path / "run")
    first, last = log[0], log[-1]
    assert first["dynamics_loss"] > 0.8 * first["copy_error"]
    assert last["dynamics_loss"] < 0.6 * last["copy_error"]
    assert last["variance"] > 0.3
    assert last["effective_rank"] > 2
    assert last["state_loss"] < 0.3 * first["state_loss"]


def test_without_actions_it_cannot_know_where_the_square_goes(
    configure: Callable, squares: Path, tmp_path: Path
) -> None:
    """The same data and steps with --model.actions=false: the control for the test before."""
    config = configure(
        model={"actions": False},
        dataset=DatasetConfig(root=squares),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=10),
        steps=150,
        batch_size=32,
        log_freq=10,
        mixed_precision="no",
    )
    train(config)
    last = rows(tmp_path / "run")[-1]
    assert last["dynamics_loss"] > 0.7 * last["copy_error"]


def test_films_are_learnt_from(configure: Callable, film: Path) -> None:
    """Neither action nor state: no size of either, and what nobody told is no loss."""
    result = train(configure(dataset=DatasetConfig(root=film), steps=2))
    world = load_world_model(Path(result["checkpoint"]), "cpu")
    assert (world.features.action_dim, world.features.state_dim) == (0, 0)
    latents = torch.zeros(2, 1, 3, 32)
    assert world.model.rollout(latents, torch.zeros(2, 5, 2, 0)).shape == (2, 5, 3, 32)
    last = rows(Path(result["output_dir"]))[-1]
    assert "state_loss" not in last
    assert last["success_loss"] == last["reward_loss"] == 0


def test_a_teacher_gives_targets_and_is_not_saved(configure: Callable) -> None:
    """Random features of a small timm model, both cameras; only the head is in the checkpoint."""
    config = configure(model={"teacher": "test_resnet", "teacher_pretrained": False}, steps=2)
    result = train(config)
    assert rows(Path(result["output_dir"]))[-1]["teacher_loss"] > 0
    names = load_file(Path(result["checkpoint"]) / "model.safetensors").keys()
    assert [name for name in names if "teacher" in name] == ["teacher_head.bias", "teacher_head.weight"]
    load_world_model(Path(result["checkpoint"]), "cpu")


# --- checkpoints ----------------------------------------------------------------------------------


def test_two_steps_and_two_resumed_ones_equal_four_steps(configure: Callable, tmp_path: Path) -> None:
    """Bit for bit in bf16 with history, augmentation, average and a random teacher."""
    straight = configure(
        model={"history": 2, "teacher": "test_resnet", "teacher_pretrained": False},
        output_dir=tmp_path / "straight",
        save_freq=2,
    )
    train(straight)
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / "straight", stopped, symlinks=True)
    shutil.rmtree(stopped / "checkpoints" / "000004")
    (stopped / "checkpoints" / "last").unlink()
    torch.rand(3)
    resumed = train(dataclasses.replace(straight, output_dir=stopped, resume=True))
    assert resumed["resumed_from"] == 2
    expected = tensors(tmp_path / "straight" / "checkpoints" / "000004")
    found = tensors(stopped / "checkpoints" / "000004")
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_resuming_another_world_model_is_refused(configure: Callable) -> None:
    """The first difference is named as a flag."""
    train(configure(steps=1))
    with pytest.raises(UserError, match=r"--model\.history=2: expected 1 as in .*000001"):
        train(configure(model={"history": 2}, steps=2, resume=True))


def test_a_checkpoint_loads_with_everything_around_it(configure: Callable, dataset_root: Path) -> None:
    """The weights that were saved, in evaluation mode and fixed; predictions as in training."""
    result = train(configure(model={"history": 2}, steps=1))
    folder = Path(result["checkpoint"])
    assert verify_manifest(folder)
    world = load_world_model(Path(result["output_dir"]), "cpu")
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(world.model.state_dict()[name], value) for name, value in stored.items())
    assert not world.model.training
    assert not any(parameter.requires_grad for parameter in world.model.parameters())
    assert world.features.cameras == ["observation.images.corner", "observation.images.gripper"]

    cache = FrameCache.open(dataset_root)
    windows = world.features.delta_indices(world.model.config, cache.features)
    batch = scale_images(gather_windows(cache, np.arange(3), windows))
    clip = world.clip(batch)
    assert clip.images.shape == (3, 4, 2, 3, SIZE, SIZE)
    assert torch.equal(
        world.see({key: batch[key] for key in world.features.cameras}), world.model.encode(clip.images)
    )
    actions = batch["action"].unflatten(1, (2, 2))
    assert torch.allclose(world.normalise_actions(actions), clip.chunks)
    assert torch.allclose(world.actions(clip.chunks), actions, atol=1e-5)
    goals = world.goal(["reach the ball", "open the drawer", "reach the ball"])
    assert torch.allclose(goals[0], goals[2])
    assert not torch.allclose(goals[0], goals[1])
    assert world.model.outcomes(world.model.encode(clip.images)[:, 0], goals).value.shape == (3,)


def test_pictures_that_are_not_those_of_training_are_refused(configure: Callable) -> None:
    """A missing camera and another size, both named."""
    world = load_world_model(Path(train(configure(steps=1))["checkpoint"]), "cpu")
    pictures = {camera: torch.zeros(1, 3, SIZE, SIZE) for camera in world.features.cameras}
    with pytest.raises(UserError, match=r"observation\.images\.corner: a picture of 16x20: expected 32x32"):
        world.see({**pictures, "observation.images.corner": torch.zeros(1, 3, 16, 20)})
    with pytest.raises(UserError, match=r"expected observation\.images\.corner as well"):
        world.see({"observation.images.gripper": torch.zeros(1, 3, SIZE, SIZE)})


def test_policies_and_world_models_are_not_taken_for_each_other(
    configure: Callable, vla_config: Callable, tmp_path: Path
) -> None:
    """Each loader says what it found, and damage is found by both."""
    world = Path(train(configure(steps=1))["checkpoint"])
    acting = dataclasses.replace(
        configure(steps=1, output_dir=tmp_path / "policy"), model=None, policy=vla_config()
    )
    policy = train(acting)
    with pytest.raises(UserError, match=r"holds a latent_vla: expected a world model"):
        load_world_model(Path(policy["checkpoint"]), "cpu")
    with pytest.raises(UserError, match=r"holds a jepa: expected a policy"):
        load_policy(world, "cpu")
    weights = world / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors: has .* bytes, expected"):
        load_world_model(world, "cpu")
