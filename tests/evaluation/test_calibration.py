"""Calibrations come from data alone, and effects of replaced plans are those that can be worked out."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from embodied.config import CollectConfig, DatasetConfig
from embodied.data.cache import FrameCache
from embodied.data.collect import complete_collection
from embodied.errors import UserError
from embodied.evaluation.calibration import calibrate, draw_observations, open_dataset, prepare_intervention
from embodied.evaluation.interventions import checkpoint_plan_effects, plan_effects
from policies.latent_vla.interventions import INTERVENTIONS
from tests.fake_envs import PointEnvConfig

IMAGINES = {
    "imagination": "latent",
    "world_model": True,
    "dynamics_depth": 1,
    "dynamics_heads": 2,
    "mode": "imagine",
}
NAMES = [name for name in INTERVENTIONS if name != "none"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, three episodes each."""
    root = tmp_path_factory.mktemp("data") / "point"
    env, dataset = PointEnvConfig(task="east,west"), DatasetConfig(root=root)
    complete_collection(CollectConfig(env=env, dataset=dataset, episodes=3, workers=1))
    return root


@pytest.fixture(scope="module")
def cache(root: Path) -> FrameCache:
    return open_dataset(DatasetConfig(root=root))


def test_observations_are_a_function_of_the_seed(cache: FrameCache) -> None:
    first, again, other = (draw_observations(cache, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first["observation.state"], again["observation.state"])
    assert not torch.equal(first["observation.state"], other["observation.state"])
    picture = first["observation.images.corner"]
    assert picture.shape == (5, 3, 32, 32)
    assert picture.max() <= 1


def test_a_calibration_holds_plans_and_every_instruction(make_loaded: Callable, cache: FrameCache) -> None:
    policy, preprocessor, _ = make_loaded("latent_vla", **IMAGINES)
    found = calibrate(policy, preprocessor, cache, plans=5)
    assert found.plans.shape == (5, 2, 2, 16)
    assert len(found.tokens) == len(found.mask) == 2
    assert not torch.equal(found.tokens[0], found.tokens[1])
    again = calibrate(policy, preprocessor, cache, plans=5)
    assert torch.equal(found.plans, again.plans)


def test_a_plan_of_the_calibration_is_that_of_its_frame_under_its_own_instruction(
    make_loaded: Callable, cache: FrameCache
) -> None:
    policy, preprocessor, _ = make_loaded("latent_vla", **IMAGINES)
    found = calibrate(policy, preprocessor, cache, plans=6, seed=3)
    frames = np.sort(np.random.default_rng(3).choice(cache.frames, size=6, replace=False))
    number = int(np.flatnonzero(cache.columns["task_index"][frames] == 1)[0])
    picture = torch.from_numpy(cache.images["observation.images.corner"][frames[number]].copy())
    alone = {
        "observation.images.corner": picture.permute(2, 0, 1)[None] / 255,
        "observation.state": torch.from_numpy(cache.columns["observation.state"][frames[number]])[None],
        "task": ["go west"],
    }
    torch.testing.assert_close(policy.imagine(preprocessor(alone))[0], found.plans[number])


def test_an_intervention_gets_its_calibration_and_only_where_it_needs_one(
    make_loaded: Callable, root: Path
) -> None:
    policy, preprocessor, _ = make_loaded("latent_vla", **IMAGINES, intervention="mean")
    prepare_intervention(policy, preprocessor, DatasetConfig(root=root))
    assert policy.calibration is not None
    for kind, settings in (("latent_vla", {**IMAGINES, "intervention": "noise"}), ("act", {})):
        policy, preprocessor, _ = make_loaded(kind, **settings)
        prepare_intervention(policy, preprocessor, None)


def test_a_calibration_without_data_is_refused(make_loaded: Callable) -> None:
    policy, preprocessor, _ = make_loaded("latent_vla", **IMAGINES, intervention="mean")
    with pytest.raises(UserError, match=r"intervention=mean: expected --calibration\.root as well"):
        prepare_intervention(policy, preprocessor, None)


def test_another_instruction_cannot_come_from_a_data_set_with_one(
    make_loaded: Callable, tmp_path: Path
) -> None:
    dataset = DatasetConfig(root=tmp_path / "one")
    complete_collection(CollectConfig(env=PointEnvConfig(), dataset=dataset, episodes=1, workers=1))
    policy, preprocessor, _ = make_loaded("latent_vla", **IMAGINES, intervention="other_instruction")
    with pytest.raises(UserError, match="two instructions or more, found only “go east”"):
        prepare_intervention(policy, preprocessor, dataset)


# --- effects --------------------------------------------------------------------------------------


class Known:
    """A policy whose chunk is its noise, plus 3 where another instruction's plan is read."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(
            chunk_size=4, action_size=2, device="cpu", mode="plan", temperature=0.0, intervention="none"
        )
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def predict_action_chunk(self, batch: dict[str, Any], noise: torch.Tensor) -> torch.Tensor:
        assert (self.config.mode, self.config.temperature) == ("imagine", 1.0)
        return noise + 3 * (self.config.intervention == "other_instruction")


def test_effects_are_root_mean_squares_over_that_of_the_noise() -> None:
    policy: Any = Known()
    found = plan_effects(policy, {"observation.state": torch.zeros(500, 2)}, ["mean", "other_instruction"])
    assert found["states"] == 500
    assert found["noise"] == pytest.approx(2**0.5, rel=0.03)  # of two independent draws
    assert found["effects"]["mean"] == {"change": 0, "ratio": 0}
    assert found["effects"]["other_instruction"]["change"] == pytest.approx(3)
    assert found["effects"]["other_instruction"]["ratio"] == pytest.approx(3 / found["noise"])


def test_the_policy_decides_as_before_afterwards() -> None:
    policy: Any = Known()
    plan_effects(policy, {"observation.state": torch.zeros(1, 2)}, ["mean"])
    assert (policy.config.mode, policy.config.temperature, policy.config.intervention) == ("plan", 0, "none")
    assert policy.resets == 3


@pytest.mark.parametrize("imagination", ["latent", "inert"])
def test_an_inert_plan_does_not_depend_on_the_instruction(
    imagination: str, save_checkpoint: Callable, cache: FrameCache
) -> None:
    folder = save_checkpoint("latent_vla", **{**IMAGINES, "imagination": imagination})
    found = checkpoint_plan_effects(folder, cache, states=6)
    assert list(found["effects"]) == NAMES
    assert found["noise"] > 0
    is_inert = imagination == "inert"
    assert (found["effects"]["other_instruction"]["change"] == 0) == is_inert
    assert (found["effects"]["other_episode"]["change"] == 0) == is_inert
    assert found["effects"]["noise"]["change"] > 0


def test_a_checkpoint_that_does_not_imagine_is_refused(save_checkpoint: Callable, cache: FrameCache) -> None:
    with pytest.raises(UserError, match="expected a checkpoint of latent_vla with"):
        checkpoint_plan_effects(save_checkpoint("latent_vla"), cache)
