from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature

from embodied.errors import UserError
from embodied.evaluation.policy_loading import check_fits, load_policy
from embodied.manifest import MANIFEST
from tests.fake_envs import PointEnvConfig


@pytest.mark.parametrize("kind", ["act", "latent_vla"])
def test_loaded_policy_acts_like_the_saved_one(
    kind: str, make_loaded: Callable, save_checkpoint: Callable
) -> None:
    policies = [make_loaded(kind), load_policy(save_checkpoint(kind), "cpu")]
    actions = []
    for policy, preprocessor, postprocessor in policies:
        torch.manual_seed(5)
        batch = preprocessor(
            {
                "observation.images.corner": torch.full((1, 3, 32, 32), 0.4),
                "observation.state": torch.tensor([[0.1, 0.2]]),
                "task": ["go east"],
            }
        )
        actions.append(postprocessor(policy.predict_action_chunk(batch)).numpy())
    np.testing.assert_array_equal(actions[0], actions[1])


def test_overrides_change_the_configuration(save_checkpoint: Callable) -> None:
    policy, _, _ = load_policy(save_checkpoint("act"), "cpu", ["--n_action_steps=2"])
    assert policy.config.n_action_steps == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--no_such_field=1", "--policy.no_such_field: expected one of .*n_action_steps"),
        ("--n_action_steps=many", "n_action_steps=many"),
        ("--n_action_steps=9", "n_action_steps=9"),
        ("--dim_model=32", "weights and configuration do not fit"),
        ("--normalization_mapping={}", "--policy.normalization_mapping: is fixed by training"),
    ],
)
def test_an_override_that_cannot_be_used_is_named_in_one_line(
    save_checkpoint: Callable, override: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_policy(save_checkpoint("act"), "cpu", [override])
    assert "\n" not in str(caught.value)


def test_unknown_device_is_refused(save_checkpoint: Callable) -> None:
    with pytest.raises(UserError, match="--device=abacus: expected"):
        load_policy(save_checkpoint("act"), "abacus")


def test_a_missing_file_is_named(save_checkpoint: Callable) -> None:
    folder: Path = save_checkpoint("act")
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(UserError, match=r"has no policy_preprocessor\.json"):
        load_policy(folder, "cpu")


def test_a_policy_fits_the_environment_it_was_made_for(make_loaded: Callable) -> None:
    check_fits(make_loaded("act")[0].config, PointEnvConfig())


@pytest.mark.parametrize(
    ("feature", "shape", "message"),
    [
        (
            "observation.images.corner",
            (3, 64, 64),
            "is 3x64x64: expected the environment's 3x32x32, set --env.width",
        ),
        (
            "observation.images.wrist",
            (3, 32, 32),
            "observation.images.wrist: expected one of .*images.corner",
        ),
    ],
)
def test_a_camera_that_does_not_fit_is_named(
    make_loaded: Callable, feature: str, shape: tuple[int, ...], message: str
) -> None:
    config = make_loaded("act")[0].config
    config.input_features[feature] = PolicyFeature(FeatureType.VISUAL, shape)
    with pytest.raises(UserError, match=message):
        check_fits(config, PointEnvConfig())


def test_an_action_of_another_size_is_named(make_loaded: Callable) -> None:
    config = make_loaded("act")[0].config
    config.output_features["action"] = PolicyFeature(FeatureType.ACTION, (7,))
    with pytest.raises(UserError, match="action is 7: expected the environment's 2"):
        check_fits(config, PointEnvConfig())


def test_a_folder_as_lerobots_trainer_writes_it_loads_with_one_warning(
    save_checkpoint: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    load_policy(save_checkpoint("act"), "cpu")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [MANIFEST in message for message in warnings] == [True]
