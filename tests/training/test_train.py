"""`train` on a data set: LeRobot's ACT and our own policy, resumed to the bit, refused in one line."""

import dataclasses
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
from safetensors.torch import load_file

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.data.augment import AUGMENTATIONS
from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.training.checkpoint import verify_manifest
from embodied.training.lock import OutputLock
from embodied.training.loop import train

Configure = Callable[..., TrainConfig]
CAMERAS = 2


@pytest.fixture
def configure(tmp_path: Path, dataset_root: Path, vla_config: Callable) -> Configure:
    """A short run of our own policy; arguments change it."""

    def build(**changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "policy": vla_config(),
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


def stop_at(monkeypatch: pytest.MonkeyPatch, batch: int | None) -> None:
    """An augmentation named `stop` that changes nothing and sends SIGTERM when the given batch passes."""
    calls: list[int] = []

    def change(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        calls.append(1)
        if batch is not None and len(calls) == CAMERAS * batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return images

    monkeypatch.setitem(AUGMENTATIONS, "stop", change)


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Everything stored as tensors: weights, average, moments, random generators, processors."""
    files = sorted(checkpoint.rglob("*.safetensors"))
    return {
        f"{file.relative_to(checkpoint)}:{name}": value
        for file in files
        for name, value in load_file(file).items()
    }


@pytest.mark.parametrize("policy", ["act_config", "vla_config", "memory_config"])
def test_two_steps_a_stop_and_two_resumed_steps_equal_four_steps(
    configure: Configure,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dataset_root: Path,
    policy: str,
) -> None:
    """Bit for bit in bf16 with dropout, noise, average and accumulation; so are the rows of steps 3 and 4."""
    straight = configure(
        policy=request.getfixturevalue(policy)(),
        dataset=DatasetConfig(root=dataset_root, augmentation="stop"),
        output_dir=tmp_path / "straight",
        accumulation=2,
        log_freq=3,
    )
    stopped = dataclasses.replace(straight, output_dir=tmp_path / "stopped")
    stop_at(monkeypatch, None)
    train(straight)
    stop_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt, match="step 2"):
        train(stopped)
    torch.rand(3)
    resumed = train(dataclasses.replace(stopped, resume=True))
    assert resumed["resumed_from"] == 2
    expected = tensors(tmp_path / "straight" / "checkpoints" / "000004")
    found = tensors(tmp_path / "stopped" / "checkpoints" / "000004")
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert [row["loss"] for row in rows(tmp_path / "stopped")] == [
        row["loss"] for row in rows(tmp_path / "straight")
    ]


def test_windows_that_cannot_hold_an_episode_are_refused_before_training(
    configure: Configure, memory_config: Callable, tmp_path: Path
) -> None:
    """Twelve frames, and after the first a look at every fourth at the latest: four looks."""
    message = r"--policy\.memory_window=3: expected at least 4, .* 12 frames and every 4 of them"
    with pytest.raises(UserError, match=message):
        train(configure(policy=memory_config(memory_window=3)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"task_weights": {"reach the ball": 2.0}}, r"task_weights=.*: expected none with --policy\.memory"),
        ({"emphasis": 0.5}, r"emphasis=0\.5: expected --policy\.memory_decisions above 0"),
    ],
)
def test_frames_cannot_be_weighed_where_whole_episodes_are_trained_on(
    weights: dict, message: str, configure: Configure, memory_config: Callable, dataset_root: Path
) -> None:
    """The flag is named."""
    weighed = DatasetConfig(root=dataset_root, **weights)
    with pytest.raises(UserError, match=message):
        train(configure(policy=memory_config(), dataset=weighed))


def test_decisions_are_drawn_by_emphasis_where_whole_episodes_are_trained_on(
    configure: Configure, memory_config: Callable, dataset_root: Path, tmp_path: Path
) -> None:
    weighed = DatasetConfig(root=dataset_root, emphasis=0.5)
    train(configure(policy=memory_config(memory_decisions=2), dataset=weighed))
    assert all(math.isfinite(row["loss"]) for row in rows(tmp_path / "run"))


def test_the_resume_command_reads_the_runs_own_settings(configure: Configure, tmp_path: Path) -> None:
    """What KeyboardInterrupt prints is parsed to the configuration that was run, resumed."""
    dataset = dataclasses.replace(configure().dataset, cameras="corner")
    config = configure(dataset=dataset, mixed_precision="no")
    train(config)
    path = tmp_path / "run" / "train_config.json"
    parsed = draccus.parse(TrainConfig, args=[f"--config_path={path}", "--resume=true"])
    assert parsed == dataclasses.replace(config, resume=True)


def test_one_batch_overfits(
    configure: Configure, vla_config: Callable, dataset_root: Path, tmp_path: Path
) -> None:
    """The twelve windows of one episode, the same ones in every batch, are learnt by heart."""
    config = configure(
        policy=vla_config(
            action_head="regression", dim=64, head_dim=64, depth=1, head_depth=1, num_latents=8
        ),
        dataset=DatasetConfig(root=dataset_root, episodes=[0]),
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=5),
        steps=150,
        batch_size=12,
        log_freq=10,
        mixed_precision="no",
    )
    train(config)
    losses = [row["loss"] for row in rows(tmp_path / "run")]
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("policy", ["act_config", "vla_config"])
def test_a_checkpoint_is_complete_and_loads(
    configure: Configure, request: pytest.FixtureRequest, policy: str
) -> None:
    """It verifies, tells what it was trained on and what it expects, and loads with the saved weights."""
    result = train(configure(policy=request.getfixturevalue(policy)(), steps=1))
    folder = Path(result["checkpoint"])
    assert verify_manifest(folder)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["dataset"]["episodes"] == 4
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    specification = json.loads((folder / "specification.json").read_text())
    assert (specification["robot_type"], specification["rate_hz"]) == (None, 80)  # the data set names none
    assert specification["action"]["action"]["names"] == ["dx", "dy", "dz", "force"]
    assert len(specification["observation"]["observation.state"]["max"]) == 4
    assert specification["observation"]["observation.images.corner"]["shape"] == [3, 32, 32]
    assert sorted(specification["instructions"]) == ["open the drawer", "reach the ball"]
    loaded, _, _ = load_policy(folder, device="cpu")
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in stored.items())


@pytest.mark.render
def test_success_in_simulation_is_measured_during_training(configure: Configure) -> None:
    """One short episode after the last step; its result is saved with the weights."""
    env = EmbodiedMetaworldEnv(task="reach", width=32, height=32, episode_length=8)
    result = train(configure(steps=2, env=env, eval_freq=2, eval_episodes=1))
    card = json.loads((Path(result["checkpoint"]) / "evaluation_card.json").read_text())
    assert (card["step"], card["episodes"], card["tasks"][0]["seeds"]) == (2, 1, [900_000])


def test_an_environment_that_does_not_fit_is_refused_before_training(
    configure: Configure, tmp_path: Path
) -> None:
    """The data have 32 px pictures, the environment 96."""
    with pytest.raises(UserError, match=r"--env\.width"):
        train(configure(env=EmbodiedMetaworldEnv(task="reach"), eval_freq=2))
    assert not (tmp_path / "run").exists()


def test_only_the_chosen_cameras_are_inputs(configure: Configure, dataset_root: Path) -> None:
    """One of two cameras by its short name."""
    result = train(configure(steps=1, dataset=DatasetConfig(root=dataset_root, cameras="gripper")))
    features = json.loads((Path(result["checkpoint"]) / "config.json").read_text())["input_features"]
    assert sorted(features) == ["observation.images.gripper", "observation.state"]


def test_a_policy_whose_packages_are_missing_is_refused_with_what_to_install(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LeRobot keeps the needs of many policies optional."""

    def make_policy(*_: object, **__: object) -> None:
        raise ImportError("'diffusers' is required: pip install 'lerobot[diffusion]'")

    monkeypatch.setattr("embodied.training.policies.make_policy", make_policy)
    with pytest.raises(UserError, match=r"--policy\.type=latent_vla: 'diffusers' is required: pip install"):
        train(configure())


def test_a_used_output_folder_is_not_overwritten(configure: Configure, tmp_path: Path) -> None:
    """The message names the folder and both ways out."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"run: exists and is not empty.*--resume=true"):
        train(configure())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_what_a_kill_at_the_very_start_leaves_is_no_run(configure: Configure, tmp_path: Path) -> None:
    """Neither a lock nor half of the settings keeps the same command from running again."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("1\n")
    (tmp_path / "run" / ".tmp-train_config.json").write_text("{")
    assert train(configure(steps=1))["steps"] == 1
    assert not (tmp_path / "run" / ".tmp-train_config.json").exists()


def test_a_folder_that_is_being_trained_into_is_refused(configure: Configure, tmp_path: Path) -> None:
    """The unfinished checkpoint of the other process is left alone."""
    unfinished = tmp_path / "run" / "checkpoints" / ".tmp-000004"
    unfinished.mkdir(parents=True)
    (tmp_path / "run" / "train_config.json").write_text("{}")
    with OutputLock(tmp_path / "run") as lock:
        lock.acquire()
        with pytest.raises(UserError, match=r"--output_dir=.*is training into it"):
            train(configure(resume=True))
    assert unfinished.is_dir()


def test_a_lost_data_file_is_answered_in_one_line_and_the_run_kept(
    configure: Configure, dataset_root: Path, tmp_path: Path
) -> None:
    """Between a stop and its resume, the data set's only file of frames goes."""
    root = shutil.copytree(dataset_root, tmp_path / "data")
    config = configure(dataset=DatasetConfig(root=root), steps=2)
    checkpoint = Path(train(config)["checkpoint"])
    for path in root.glob("data/*/*.parquet"):
        path.unlink()
    with pytest.raises(UserError, match=r"--dataset\.root=.*expected a LeRobotDataset folder, with data/"):
        train(dataclasses.replace(config, steps=4, resume=True))
    assert verify_manifest(checkpoint)
    assert len(rows(tmp_path / "run")) == 2


def test_resuming_nothing_is_refused(configure: Configure, tmp_path: Path) -> None:
    """The folder is named and not created."""
    with pytest.raises(UserError, match="run holds no checkpoint"):
        train(configure(resume=True))
    assert not (tmp_path / "run").exists()


def test_a_run_killed_before_its_first_checkpoint_starts_again(configure: Configure, tmp_path: Path) -> None:
    """`--resume` then leads to the same end as the run that was not killed."""
    train(configure(output_dir=tmp_path / "straight"))
    settings = (tmp_path / "straight" / "train_config.json").read_bytes()
    (tmp_path / "run" / "checkpoints" / ".tmp-000004").mkdir(parents=True)
    (tmp_path / "run" / "train_config.json").write_bytes(settings)
    result = train(configure(resume=True))
    expected = tensors(tmp_path / "straight" / "checkpoints" / "000004")
    assert result["resumed_from"] is None
    assert all(
        torch.equal(value, expected[name]) for name, value in tensors(Path(result["checkpoint"])).items()
    )


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("policy", r"--policy\.head_depth=3: expected 2 as in .*000002, which --resume=true"),
        ("data", r"the data's fingerprint="),
        ("batch", r"--batch_size of all processes together=3: expected 4"),
        ("average", r"--optimizer\.ema_decay: expected above 0, as in .*000002"),
        ("steps", r"--steps=1: .*000002 is past that: expected at least 2"),
    ],
)
def test_resuming_with_something_else_is_refused(
    configure: Configure, vla_config: Callable, other_dataset_root: Path, what: str, message: str
) -> None:
    """The first difference is named, with both values."""
    train(configure(steps=2))
    changes: dict[str, Any] = {
        "policy": {"policy": vla_config(head_depth=3)},
        "data": {"dataset": DatasetConfig(root=other_dataset_root)},
        "batch": {"batch_size": 3},
        "average": {"optimizer": OptimizerConfig(ema_decay=0.0)},
        "steps": {"steps": 1},
    }[what]
    with pytest.raises(UserError, match=message):
        train(configure(**({"steps": 2, "resume": True} | changes)))


def test_a_finished_run_resumed_changes_nothing(configure: Configure, tmp_path: Path) -> None:
    """There is no step left, so nothing is written."""
    train(configure(steps=2))
    result = train(configure(steps=2, resume=True))
    assert (result["steps"], result["resumed_from"]) == (2, 2)
    assert len(rows(tmp_path / "run")) == 2


def test_a_folder_without_data_is_refused(configure: Configure, tmp_path: Path) -> None:
    """Named, before anything is written."""
    with pytest.raises(UserError, match=r"--dataset\.root=.*nothing: expected a LeRobotDataset folder"):
        train(configure(dataset=DatasetConfig(root=tmp_path / "nothing")))
    assert not (tmp_path / "run").exists()


def test_an_unknown_augmentation_is_refused_with_the_known_ones(
    configure: Configure, dataset_root: Path
) -> None:
    """A misspelling is answered before training."""
    with pytest.raises(UserError, match=r"augmentation=blurr: expected one of none"):
        train(configure(dataset=DatasetConfig(root=dataset_root, augmentation="blurr")))
