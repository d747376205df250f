"""LeRobot's own policies in our training: what they see, and one line about what they cannot use."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.tdmpc.configuration_tdmpc import TDMPCConfig

from embodied.data.cache import FrameCache
from embodied.data.dataset import open_metadata
from embodied.data.statistics import seen_metadata, training_statistics
from embodied.errors import UserError
from embodied.evaluation.policy_loading import check_fits
from embodied.training.policies import policy_trainable
from embodied.training.trainable import Trainable
from tests.fake_envs import PointEnvConfig
from tests.recordings import METAWORLD, write_recording

TDMPC = {"device": "cpu", "push_to_hub": False, "mlp_dim": 16}


def trainable(config: Any, root: Path, cameras: str | None = None) -> Trainable:
    metadata, cache = open_metadata(root), FrameCache.open(root, cameras=cameras)
    return policy_trainable(
        config, seen_metadata(metadata, cache, training_statistics(config, metadata, cache))
    )


def test_tdmpc_gets_its_only_picture_under_the_name_it_knows(tmp_path: Path) -> None:
    """The preprocessor renames it, and an environment is checked for what it was called before."""
    robot = dataclasses.replace(METAWORLD, cameras={"corner": (64, 64)}, lengths=(8, 8))
    built = trainable(TDMPCConfig(**TDMPC), write_recording(tmp_path / "data", robot))
    preprocessor: Any = built.preprocess
    config: Any = built.module.config
    assert sorted(config.input_features) == ["observation.image", "observation.state"]
    assert preprocessor.steps[0].rename_map == {"observation.images.corner": "observation.image"}
    with pytest.raises(UserError, match=r"images\.corner is 3x64x64: expected the environment's"):
        check_fits(config, PointEnvConfig(), preprocessor)
    with pytest.raises(UserError, match=r"observation\.image: expected one of"):
        check_fits(config, PointEnvConfig())


def test_tdmpc_with_two_cameras_is_refused(recording: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=r"tdmpc: sees one picture, not 2 .*corner.*: expected one of them"):
        trainable(TDMPCConfig(**TDMPC), recording("metaworld"))


def test_tdmpc_without_rewards_is_refused(dataset_root: Path) -> None:
    with pytest.raises(UserError, match=r"tdmpc: learns from rewards: expected .* next\.reward"):
        trainable(TDMPCConfig(**TDMPC), dataset_root, cameras="corner")


def test_a_missing_package_is_one_line(dataset_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*args: Any, **kwargs: Any) -> None:
        raise ImportError("'diffusers' is required but not installed.\nInstall it with: ...")

    monkeypatch.setattr("embodied.training.policies.make_policy", lacking)
    with pytest.raises(UserError, match=r"^--policy\.type=diffusion: 'diffusers' is required[^\n]*$"):
        trainable(DiffusionConfig(device="cpu"), dataset_root)


def test_what_a_peer_says_about_the_data_is_one_line(dataset_root: Path, act_config: Callable) -> None:
    """LeRobot's policies refuse by ValueError."""

    def refuse() -> None:
        raise ValueError("only square pictures\nand more")

    config = act_config()
    config.validate_features = refuse
    with pytest.raises(UserError, match=r"--policy\.type=act: only square pictures$"):
        trainable(config, dataset_root)
