"""Relative actions: which joints, what the network is trained on, and that absolute actions come out."""

from types import SimpleNamespace

import pytest
import torch
from lerobot.configs.types import NormalizationMode
from lerobot.processor import PolicyProcessorPipeline

from policies.latent_vla.processor_latent_vla import make_latent_vla_pre_post_processors
from policies.latent_vla.relative_actions import (
    ACTION_ANCHOR,
    RELATIVE_ACTION,
    RelativeActionsStep,
    dimension_names,
    relative_sources,
)

NAMES = ["lift", "pan", "elbow", "gripper"]
FEATURES = {
    "observation.state": {"names": ["pan", "lift", "gripper", "elbow"]},
    "action": {"names": NAMES},
}
RANGES = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
}


def processors(make_config, mode=NormalizationMode.MEAN_STD):
    """Relative actions have centre 1 and unit 2 in every mode."""
    low, high = {"mean": (1.0, 2.0)}.get(RANGES[mode][0], (-1.0, 3.0))
    spread = {RANGES[mode][0]: torch.full((4,), low), RANGES[mode][1]: torch.full((4,), high)}
    unit = {"mean": torch.zeros(4), "std": torch.ones(4)}
    config = make_config(relative_actions=True, normalization_mapping={"ACTION": mode})
    statistics = {"observation.state": unit, "action": unit, RELATIVE_ACTION: spread}
    return make_latent_vla_pre_post_processors(config, statistics, SimpleNamespace(features=FEATURES))


def test_joints_are_matched_by_name_and_grippers_stay_absolute():
    assert relative_sources(FEATURES, ["gripper"]) == [1, 0, 3, -1]
    assert relative_sources(FEATURES, ["GRIP", "pan"]) == [1, -1, 3, -1]
    assert relative_sources(FEATURES, []) == [1, 0, 3, 2]


def test_names_nested_as_in_older_data_sets_are_read():
    assert dimension_names({"names": {"motors": ["a", "b"]}}) == ["a", "b"]
    assert dimension_names({"names": {"x": 0, "y": 1}}) == ["x", "y"]
    assert dimension_names({"names": None}) is None


@pytest.mark.parametrize("names", [["dx", "dy", "dz", "gripper"], None])
def test_without_a_joint_of_the_same_name_relative_actions_are_refused(names):
    features = FEATURES | {"action": {"names": names}}
    with pytest.raises(ValueError, match="relative_actions=true: expected joints named the same"):
        relative_sources(features, ["gripper"])


def test_the_states_of_the_chunks_start_are_subtracted(make_config):
    before, _ = processors(make_config)
    batch = before(
        {
            "observation.state": torch.tensor([[10.0, 20.0, 30.0, 40.0]]),
            "action": torch.tensor([[[23.0, 13.0, 43.0, 5.0], [25.0, 11.0, 41.0, 1.0]]]),
            "task": ["go"],
        }
    )
    assert batch["action"][0].tolist() == [[1.0, 1.0, 1.0, 2.0], [2.0, 0.0, 0.0, 0.0]]
    assert batch[ACTION_ANCHOR][0].tolist() == [10.0, 5.0, 20.0, 0.0]


def test_with_a_history_the_latest_state_counts(make_config):
    before, _ = processors(make_config)
    state = torch.stack([torch.full((1, 4), 7.0), torch.tensor([[10.0, 20.0, 30.0, 40.0]])], dim=1)
    assert before({"observation.state": state, "task": ["go"]})[ACTION_ANCHOR][0].tolist() == [10, 5, 20, 0]


@pytest.mark.parametrize("mode", RANGES)
def test_absolute_actions_come_out_in_every_normalisation(make_config, make_policy, monkeypatch, mode):
    """A network that predicts 0.5 means 1 + 2 * 0.5 beside the state, or beside nothing for the gripper."""
    before, after = processors(make_config, mode)
    policy = make_policy(relative_actions=True, normalization_mapping={"ACTION": mode})
    monkeypatch.setattr(policy.head, "sample", lambda states, noise, prefix: torch.full_like(noise, 0.5))
    batch = before(observation(torch.tensor([[10.0, 20.0, 30.0, 40.0]])))
    chunk = after(policy.predict_action_chunk(batch))
    assert chunk.shape == (1, 12, 4)
    torch.testing.assert_close(chunk, torch.tensor([22.0, 12.0, 42.0, 2.0]).expand(1, 12, 4))


def test_actions_handed_out_one_by_one_stay_relative_to_the_chunks_start(
    make_config, make_policy, monkeypatch
):
    """The state moves on after each action; the commands of a chunk do not, until the next look."""
    before, after = processors(make_config)
    policy = make_policy(relative_actions=True, n_action_steps=3)
    monkeypatch.setattr(policy.head, "sample", lambda states, noise, prefix: torch.full_like(noise, 0.5))
    first = [
        after(policy.select_action(before(observation(torch.full((1, 4), 10.0 * step)))))[0, 0].item()
        for step in range(5)
    ]
    assert first == [2.0, 2.0, 2.0, 32.0, 32.0]


def test_a_saved_step_gives_the_same_batch(make_config, tmp_path):
    before, _ = processors(make_config)
    before.save_pretrained(tmp_path)
    loaded = PolicyProcessorPipeline.from_pretrained(tmp_path, config_filename="policy_preprocessor.json")
    batch = observation(torch.randn(1, 4)) | {"action": torch.randn(1, 12, 4)}
    expected, found = before(dict(batch)), loaded(dict(batch))
    assert any(isinstance(step, RelativeActionsStep) for step in loaded.steps)
    for key in ("action", ACTION_ANCHOR):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


def test_without_their_statistics_relative_actions_are_refused(make_config):
    unit = {"mean": torch.zeros(4), "std": torch.ones(4)}
    with pytest.raises(ValueError, match=r"expected statistics of action\.relative"):
        make_latent_vla_pre_post_processors(
            make_config(relative_actions=True), {"observation.state": unit, "action": unit}
        )


def test_relative_actions_need_normalised_ones(make_config):
    with pytest.raises(ValueError, match="IDENTITY for ACTION, expected another"):
        make_config(relative_actions=True, normalization_mapping={"ACTION": NormalizationMode.IDENTITY})


def observation(state: torch.Tensor) -> dict:
    pictures = {f"observation.images.{name}": torch.zeros(1, 3, 32, 32) for name in ("corner", "gripper")}
    return {**pictures, "observation.state": state, "task": ["go"]}
