"""Processors of the latent VLA: tokens, normalisation, statistics that are missing or constant."""

import pytest
import torch
from lerobot.configs.types import NormalizationMode

from policies.latent_vla.processor_latent_vla import checked_statistics, make_latent_vla_pre_post_processors
from policies.latent_vla.tokenizer import PAD_ID


@pytest.fixture
def statistics():
    return {
        "observation.state": {"mean": torch.zeros(4), "std": torch.full((4,), 2.0)},
        "action": {"mean": torch.ones(4), "std": torch.full((4,), 4.0)},
    }


def test_actions_come_back_in_their_own_units(make_config, statistics):
    before, after = make_latent_vla_pre_post_processors(make_config(), statistics)
    batch = before(
        {"observation.state": torch.full((1, 4), 6.0), "action": torch.full((1, 4), 9.0), "task": ["go"]}
    )
    assert batch["observation.state"][0].tolist() == pytest.approx([3.0] * 4)
    assert batch["action"][0].tolist() == pytest.approx([2.0] * 4)
    assert after(batch["action"])[0].tolist() == pytest.approx([9.0] * 4)


def test_instructions_become_bytes_padded_to_the_longest(make_config, statistics):
    before, _ = make_latent_vla_pre_post_processors(make_config(), statistics)
    batch = before({"observation.state": torch.zeros(3, 4), "task": ["go", "stop", "go"]})
    tokens = batch["observation.language.tokens"]
    end = 1
    assert tokens.tolist() == [
        [ord("g") + 3, ord("o") + 3, end, PAD_ID, PAD_ID],
        [*(ord(letter) + 3 for letter in "stop"), end],
        [ord("g") + 3, ord("o") + 3, end, PAD_ID, PAD_ID],
    ]
    assert batch["observation.language.attention_mask"].sum(1).tolist() == [3, 5, 3]


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("MIN_MAX", "min", "max"), ("QUANTILES", "q01", "q99"), ("QUANTILE10", "q10", "q90")],
)
def test_a_range_maps_to_minus_one_and_one_and_back(make_config, mode, low, high):
    ranges = {low: torch.full((4,), 10.0), high: torch.full((4,), 30.0)}
    mapping = {"STATE": NormalizationMode[mode], "ACTION": NormalizationMode[mode]}
    before, after = make_latent_vla_pre_post_processors(
        make_config(normalization_mapping=mapping), {"observation.state": ranges, "action": ranges}
    )
    values = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    batch = before({"observation.state": values, "action": values, "task": ["go"]})
    assert batch["observation.state"][0].tolist() == pytest.approx([-1.0, 0.0, 1.0, 2.0])
    assert after(batch["action"])[0].tolist() == pytest.approx([10.0, 20.0, 30.0, 40.0])


def test_a_kind_that_is_not_named_keeps_its_normalisation(make_config):
    mapping = make_config(normalization_mapping={"ACTION": NormalizationMode.MIN_MAX}).normalization_mapping
    assert mapping["ACTION"] is NormalizationMode.MIN_MAX
    assert mapping["STATE"] is NormalizationMode.MEAN_STD
    assert mapping["VISUAL"] is NormalizationMode.IDENTITY


def test_an_unknown_kind_is_refused(make_config):
    with pytest.raises(ValueError, match="normalization_mapping: STAET, expected one of VISUAL, STATE"):
        make_config(normalization_mapping={"STAET": NormalizationMode.MIN_MAX})


def test_a_policy_that_leaves_a_kind_out_is_refused(make_config, statistics):
    config = make_config()
    config.normalization_mapping = {"STATE": NormalizationMode.MEAN_STD, "VISUAL": NormalizationMode.IDENTITY}
    with pytest.raises(ValueError, match="names STATE, VISUAL, expected ACTION as well, for action"):
        checked_statistics(config, statistics)


@pytest.mark.parametrize(("mode", "low", "high"), [("MIN_MAX", "min", "max"), ("QUANTILES", "q01", "q99")])
def test_a_constant_dimension_of_a_range_maps_to_zero(make_config, statistics, caplog, mode, low, high):
    statistics["observation.state"] = {low: torch.full((4,), 5.0), high: torch.tensor([7.0, 5.0, 7.0, 7.0])}
    mapping = {"STATE": NormalizationMode[mode]}
    before, _ = make_latent_vla_pre_post_processors(make_config(normalization_mapping=mapping), statistics)
    assert "observation.state is constant in dimensions [1]" in caplog.text
    batch = before({"observation.state": torch.full((1, 4), 5.0), "task": ["go"]})
    assert batch["observation.state"][0].tolist() == pytest.approx([-1.0, 0.0, -1.0, -1.0])


def test_missing_statistics_are_an_error(make_config, statistics):
    del statistics["action"]
    with pytest.raises(ValueError, match="statistics of action: expected mean and std"):
        checked_statistics(make_config(), statistics)


def test_a_constant_dimension_maps_to_zero_with_a_warning(make_config, statistics, caplog):
    statistics["observation.state"] = {
        "mean": torch.full((4,), 5.0),
        "std": torch.tensor([1.0, 0.0, 1.0, 1.0]),
    }
    before, _ = make_latent_vla_pre_post_processors(make_config(), statistics)
    assert "observation.state is constant in dimensions [1]" in caplog.text
    batch = before({"observation.state": torch.full((1, 4), 5.001), "task": ["go"]})
    assert batch["observation.state"][0, 1].item() == pytest.approx(0.001, abs=1e-5)


def test_saved_processors_give_identical_batches(make_config, statistics, tmp_path):
    from lerobot.processor import PolicyProcessorPipeline

    before, _ = make_latent_vla_pre_post_processors(make_config(), statistics)
    before.save_pretrained(tmp_path)
    loaded = PolicyProcessorPipeline.from_pretrained(tmp_path, config_filename="policy_preprocessor.json")
    batch = {"observation.state": torch.randn(2, 4), "task": ["go", "stop"]}
    for key, value in before(dict(batch)).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, loaded(dict(batch))[key])
