"""Processors of the latent VLA: tokens, normalisation, statistics that are missing or constant."""

import pytest
import torch

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
