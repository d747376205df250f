"""An exported policy in `embodied evaluate`: episode by episode as its checkpoint, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.config import CheckpointConfig, DatasetConfig, EvaluateConfig
from embodied.errors import UserError
from embodied.evaluation.evaluate import evaluate
from embodied.export.config import ExportConfig
from embodied.export.export import export
from embodied.serving.specification import from_checkpoint
from tests.checkpoints import THINKING, save_checkpoint, save_dataset
from tests.exports import save_export
from tests.fake_envs import ThreeJointEnvConfig

SHORT = {"chunk_size": 6, "n_action_steps": 2, "action_tokens": 2, "euler_steps": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint and its export."""
    root = tmp_path_factory.mktemp("evaluated")
    checkpoint = save_checkpoint(root / "checkpoint", **SHORT, **THINKING)
    exported = root / "exported"
    dataset = DatasetConfig(root=save_dataset(root / "data"))
    config = ExportConfig(policy=CheckpointConfig(path=checkpoint), output_dir=exported, dataset=dataset)
    export(replace(config, observations=4, modes="imagine"))
    return {"checkpoint": checkpoint, "exported": exported}


def config_for(folder: Path, *overrides: str, **changes: Any) -> EvaluateConfig:
    return EvaluateConfig(
        policy=CheckpointConfig(path=folder),
        policy_overrides=list(overrides),
        env=changes.pop("env", ThreeJointEnvConfig(episode_length=6)),
        episodes=3,
        seed=50,
        num_envs=2,
        **changes,
    )


@pytest.mark.slow  # tracing takes torch ten seconds, be the policy ever so small
def test_an_export_is_evaluated_as_its_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    results, rewards = {}, {}
    for name, folder in folders.items():
        config = config_for(folder, "--mode=imagine", output_dir=tmp_path / name)
        results[name] = evaluate(config)
        lines = (tmp_path / name / "episodes.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        rewards[name] = [row["return"] for row in rows if row["arm"] == "policy"]
    np.testing.assert_allclose(rewards["exported"], rewards["checkpoint"], atol=1e-3)
    assert len(set(rewards["exported"])) == 3
    ours, theirs = results["exported"], results["checkpoint"]
    assert ours["tasks"][0]["seeds"] == [50, 51, 52]
    assert [floor["tasks"][0]["seeds"] for floor in ours["floors"].values()] == [[50, 51, 52]] * 2
    assert (ours["policy"], theirs["policy"]) == ("exported", "latent_vla")
    assert ours["checkpoint"]["sha256"] == theirs["checkpoint"]["sha256"]
    assert ours["checkpoint"]["path"] == str(folders["exported"])
    assert json.loads(json.dumps(ours)) == ours


@pytest.mark.parametrize(
    ("overrides", "changes", "line"),
    [
        (["--mode=plan"], {}, "--policy.mode=plan: .*: expected one of imagine"),
        (
            ["--n_action_steps=1"],
            {},
            "--policy.n_action_steps: .*: expected only --policy.path or --policy.mode",
        ),
        ([], {"device": "cuda"}, "--device=cuda: .* is an exported policy: expected cpu"),
        ([], {"calibration": DatasetConfig(root=Path("x"))}, "--calibration.root=x: .*: expected none"),
        (
            [],
            {"env": ThreeJointEnvConfig(cameras="corner")},
            "images.gripper: expected one of the environment",
        ),
    ],
)
def test_what_an_export_cannot_do_is_named(
    tmp_path: Path, overrides: list[str], changes: dict[str, Any], line: str
) -> None:
    specification = replace(from_checkpoint(save_checkpoint(tmp_path / "c")), modes=("imagine",))
    exported = save_export(tmp_path / "exported", specification)
    with pytest.raises(UserError, match=line):
        evaluate(config_for(exported, *overrides, **changes))
