"""Data sets of three robots, from training to actions: own cameras, normalisation and relative actions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lerobot.configs.types import NormalizationMode
from safetensors.torch import load_file

from embodied.config import DatasetConfig, OptimizerConfig, TrainConfig
from embodied.evaluation.policy_loading import load_policy
from embodied.training.loop import train
from policies.latent_vla.relative_actions import RelativeActionsStep
from tests.recordings import ROBOTS

Recording = Callable[[str], Path]
QUANTILES = {"STATE": NormalizationMode.QUANTILES, "ACTION": NormalizationMode.QUANTILES}
MIN_MAX = {"STATE": NormalizationMode.MIN_MAX, "ACTION": NormalizationMode.MIN_MAX}
CASES = {
    "so101": (
        {"cameras": "front:corner,wrist:gripper"},
        {"normalization_mapping": QUANTILES, "relative_actions": True},
    ),
    "aloha": ({"episodes": [0, 2]}, {"normalization_mapping": MIN_MAX, "relative_actions": True}),
    "metaworld": ({"success_only": True}, {}),
}
CAMERAS = {"so101": ["corner", "gripper"], "aloha": ["cam_high"], "metaworld": ["corner", "gripper"]}


@pytest.fixture
def run(recording: Recording, vla_config: Callable, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Trains two steps on a robot's data with its case's flags."""

    def train_on(robot: str) -> dict[str, Any]:
        data, policy = CASES[robot]
        config = TrainConfig(
            policy=vla_config(**policy),
            dataset=DatasetConfig(root=recording(robot), **data),
            output_dir=tmp_path / "run",
            optimizer=OptimizerConfig(warmup_steps=1),
            steps=2,
            batch_size=4,
            log_freq=1,
        )
        return train(config)

    return train_on


@pytest.mark.parametrize("robot", CASES)
def test_a_checkpoint_of_own_data_gives_actions_in_range(robot: str, run: Callable) -> None:
    """The policy knows the cameras by the names asked for, and its actions are near those recorded."""
    folder = Path(run(robot)["checkpoint"])
    policy, preprocessor, postprocessor = load_policy(folder, device="cpu")
    height, width = next(iter(ROBOTS[robot].cameras.values()))
    specification = json.loads((folder / "specification.json").read_text())
    state = specification["observation"]["observation.state"]
    batch: dict[str, Any] = {
        f"observation.images.{camera}": torch.rand(1, 3, height, width) for camera in CAMERAS[robot]
    }
    middle = torch.tensor([[(low + high) / 2 for low, high in zip(state["min"], state["max"], strict=True)]])
    batch |= {"observation.state": middle, "task": [ROBOTS[robot].tasks[0]]}
    chunk = postprocessor(policy.predict_action_chunk(preprocessor(batch)))[0].numpy()
    action = specification["action"]["action"]
    low, high = np.array(action["min"]), np.array(action["max"])
    assert chunk.shape == (4, len(ROBOTS[robot].action))
    assert (chunk > low - 2 * (high - low)).all()
    assert (chunk < high + 2 * (high - low)).all()


def test_the_range_in_the_checkpoint_is_that_of_the_chosen_episodes(
    recording: Recording, run: Callable
) -> None:
    """The ALOHA case trains on the first and third episode, of 60, 70, 64 and 80 frames."""
    folder = Path(run("aloha")["checkpoint"])
    table = pq.read_table(recording("aloha") / "data/chunk-000/file-000.parquet")
    state, action = (np.stack(table[key].to_numpy()) for key in ("observation.state", "action"))
    chosen = [*range(60), *range(130, 194)]
    saved = next(folder.glob("policy_preprocessor*normalizer*.safetensors"))
    statistics = load_file(saved)
    np.testing.assert_allclose(statistics["observation.state.min"], state[chosen].min(0), rtol=1e-6)
    gripper, waist = 6, 0
    assert statistics["action.min"][gripper] == pytest.approx(action[chosen, gripper].min())
    relative = [
        action[frame + ahead, waist] - state[frame, waist]
        for start, stop in ((0, 60), (130, 194))
        for frame in range(start, stop)
        for ahead in range(4)
        if frame + ahead < stop
    ]
    assert statistics["action.min"][waist] == pytest.approx(min(relative), rel=1e-5)
    assert statistics["action.max"][waist] == pytest.approx(max(relative), rel=1e-5)


def test_the_saved_preprocessor_makes_actions_relative(run: Callable) -> None:
    """Joint by joint, the gripper excepted; the plain normaliser follows."""
    _, preprocessor, _ = load_policy(Path(run("so101")["checkpoint"]), device="cpu")
    step = next(step for step in preprocessor.steps if isinstance(step, RelativeActionsStep))
    assert step.sources == [0, 1, 2, 3, 4, -1]
    assert step.units is not None
    assert (step.units > 0).all()
