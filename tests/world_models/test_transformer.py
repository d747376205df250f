"""Errors under a mask, effective rank, attention: answers known by hand."""

import pytest
import torch
from torch.nn import functional as F

from world_models.transformer import ConditionedBlock, attention, masked_mse, participation_ratio


def test_padding_does_not_count() -> None:
    """Errors 1 and 3, squared and averaged: (1 + 9) / 2 = 5; the padded row has 100."""
    predicted = torch.tensor([[[1.0, 3.0], [10.0, 10.0]]])
    is_pad = torch.tensor([[False, True]])
    assert masked_mse(predicted, torch.zeros(1, 2, 2), is_pad) == 5
    assert masked_mse(predicted, torch.zeros(1, 2, 2), ~is_pad) == 100
    assert masked_mse(predicted, torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool)) == 0


def test_plain_numbers_have_an_error_too() -> None:
    """Rows without further dimensions: (4 + 0) / 2."""
    is_pad = torch.zeros(2, dtype=torch.bool)
    assert masked_mse(torch.tensor([2.0, 1.0]), torch.tensor([0.0, 1.0]), is_pad) == 2


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_effective_rank_of_equal_spread_in_some_dimensions_is_their_number(rank: int) -> None:
    """Plus and minus a unit in each of them, of eight."""
    axes = torch.eye(8)[:rank]
    latents = torch.cat([axes, -axes]) + 3
    assert participation_ratio(latents) == pytest.approx(rank, rel=1e-4)
    assert participation_ratio(latents.unflatten(1, (2, 4))) == pytest.approx(rank, rel=1e-4)


def test_the_effective_rank_of_unequal_spread() -> None:
    """Variances 4 and 1: (4 + 1)^2 / (16 + 1)."""
    latents = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert participation_ratio(latents) == pytest.approx(25 / 17)


def test_latents_that_are_all_equal_have_no_rank() -> None:
    assert participation_ratio(torch.ones(6, 4)) == 0


def test_attention_is_torchs() -> None:
    query, key, value = (
        torch.randn(2, 3, n, 4, generator=torch.Generator().manual_seed(n)) for n in (5, 6, 6)
    )
    expected = F.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(attention(query, key, value), expected, atol=1e-6)


def test_at_first_the_condition_does_not_matter() -> None:
    """adaLN-zero: what conditions a block is learnt from nothing."""
    torch.manual_seed(0)
    block = ConditionedBlock(8, 2, 4)
    tokens = torch.randn(1, 3, 8)
    assert torch.equal(block(tokens, torch.zeros(1, 4)), block(tokens, torch.ones(1, 4)))
    torch.nn.init.normal_(block.modulation.weight)
    assert not torch.allclose(block(tokens, torch.zeros(1, 4)), block(tokens, torch.ones(1, 4)))
