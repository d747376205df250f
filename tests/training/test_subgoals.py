"""Sub-goals from the data set to the checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.errors import UserError
from embodied.evaluation.calibration import calibrate, draw_observations, open_dataset
from embodied.evaluation.policy_loading import load_policy
from embodied.training.loop import train
from tests.recordings import add_subgoals

SPEAKS = {"world_model": True, "imagination": "latent", "imagine_subgoals": True}
STAGES = [(0.0, "move there"), (0.05, "grasp it")]
"""The second from frame 4 of 12 on, at 80 frames a second."""


@pytest.fixture
def start(vla_config: Callable, tmp_path: Path) -> Callable[..., TrainConfig]:
    def build(root: Path, **policy: object) -> TrainConfig:
        return TrainConfig(
            policy=vla_config(**SPEAKS | policy),
            dataset=DatasetConfig(root=root),
            output_dir=tmp_path / "run",
            optimizer=OptimizerConfig(warmup_steps=1),
            steps=1,
            batch_size=4,
            log_freq=1,
        )

    return build


@pytest.fixture
def told_root(dataset_root: Path, tmp_path: Path) -> Path:
    root = tmp_path / "told"
    shutil.copytree(dataset_root, root, ignore=shutil.ignore_patterns(".cache"))
    return add_subgoals(root, [STAGES] * 4)


def test_a_trained_policy_says_sub_goals_of_its_data_set(told_root: Path, start: Callable) -> None:
    folder = Path(train(start(told_root))["checkpoint"])
    assert json.loads((folder / "config.json").read_text())["subgoals"] == ["grasp it", "move there"]
    logged = (folder.parents[1] / "metrics.jsonl").read_text()
    assert "subgoal_loss" in logged
    policy, preprocessor, _ = load_policy(folder, device="cpu")
    cache = open_dataset(DatasetConfig(root=told_root))
    said = policy.imagine_subgoals(preprocessor(draw_observations(cache, 3, seed=0)))
    assert [len(row) for row in said] == [2, 2, 2]
    assert {text for row in said for text in row} <= {"grasp it", "move there"}
    plans = calibrate(policy, preprocessor, cache, plans=3).plans
    assert plans.shape == (3, 2, 4, 32)


def test_sub_goals_of_another_data_set_are_refused(told_root: Path, start: Callable) -> None:
    with pytest.raises(UserError, match=r"--policy.subgoals=\['pour'\]: expected those of"):
        train(start(told_root, subgoals=["pour"]))
