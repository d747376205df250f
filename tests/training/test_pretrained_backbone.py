"""Training on a pretrained backbone: resumed to the bit, and a checkpoint that needs no VLM beside it."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embodied import cli
from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.evaluation.policy_loading import load_policy
from embodied.training.loop import train
from tests.tiny_vlms import write_vlm

IMAGINING = {"imagination": "latent", "world_model": True, "imagined_steps": 1}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random SmolVLM2."""
    return write_vlm(tmp_path_factory.mktemp("vlms") / "smolvlm", "smolvlm")


@pytest.fixture
def configure(tmp_path: Path, dataset_root: Path, vla_config: Callable) -> Callable[..., TrainConfig]:
    """A run with adapters in a VLM, at a constant learning rate."""

    def build(vlm: Path, steps: int, output_dir: str = "run") -> TrainConfig:
        return TrainConfig(
            policy=vla_config(backbone="pretrained", vlm=str(vlm), lora_rank=2, **IMAGINING),
            dataset=DatasetConfig(root=dataset_root),
            output_dir=tmp_path / output_dir,
            optimizer=OptimizerConfig(warmup_steps=0, final_lr_fraction=1.0),  # whatever the number of steps
            steps=steps,
            save_freq=1,
            batch_size=4,
            log_freq=1,
        )

    return build


def test_a_resumed_run_is_the_same_and_changes_only_adapters_of_the_vlm(
    configure: Callable, vlm: Path, tmp_path: Path
) -> None:
    train(configure(vlm, steps=2, output_dir="straight"))
    train(configure(vlm, steps=1, output_dir="stopped"))
    train(dataclasses.replace(configure(vlm, steps=2, output_dir="stopped"), resume=True))
    early, late, resumed = (
        load_file(tmp_path / run / "checkpoints" / step / "model.safetensors")
        for run, step in (("straight", "000001"), ("straight", "000002"), ("stopped", "000002"))
    )
    assert late.keys() == resumed.keys()
    assert [name for name in late if not torch.equal(late[name], resumed[name])] == []
    changed = {name for name in late if ".vlm." in name and not torch.equal(late[name], early[name])}
    assert changed
    assert all(".up." in name or ".down." in name for name in changed)


def test_a_checkpoint_acts_where_there_is_no_vlm(configure: Callable, vlm: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(vlm, tmp_path / "vlm")
    result = train(configure(copy, steps=1))
    shutil.rmtree(copy)
    policy, before, after = load_policy(Path(result["checkpoint"]), device="cpu", overrides=["--mode=plan"])
    batch = before(
        {
            "observation.images.corner": torch.rand(1, 3, 32, 32),
            "observation.images.gripper": torch.rand(1, 3, 32, 32),
            "observation.state": torch.zeros(1, 4),
            "task": ["open the drawer"],
        }
    )
    assert after(policy.select_action(batch)).shape == (1, 4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--policy.vlm=nowhere"], "--policy.vlm=nowhere: no configuration to read"),
        (["--policy.vlm={llama}"], "an unknown VLM family, llama: expected one of smolvlm, qwen2_vl"),
        ([], "--policy.backbone=pretrained: expected --policy.vlm=NAME_OR_FOLDER"),
    ],
)
def test_a_vlm_that_cannot_be_used_is_refused_in_one_line(
    dataset_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    llama = write_vlm(tmp_path / "llama", "llama")
    capfd.readouterr()
    data, run = f"--dataset.root={dataset_root}", f"--output_dir={tmp_path / 'run'}"
    flags = [
        "--policy.backbone=pretrained",
        "--policy.device=cpu",
        *(flag.format(llama=llama) for flag in flags),
    ]
    assert cli.main(["train", data, run, *flags]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
