"""Outcome losses: what is not known or lies behind the end does not count."""

import math

import pytest
import torch

from world_models.outcomes import OutcomeHeads, Outcomes, outcome_losses

NAN = float("nan")
REAL = torch.tensor([False, False, False])


def test_unknown_targets_and_padding_do_not_count() -> None:
    """Of three values the second is not known and the third is padding: (1 - 3)^2 is left."""
    read = Outcomes(value=torch.tensor([1.0, 50.0, 50.0]), reward=torch.zeros(3))
    target = Outcomes(value=torch.tensor([3.0, NAN, 0.0]))
    losses = outcome_losses(read, target, torch.tensor([False, False, True]))
    assert losses == {"value": 4.0}


def test_success_is_cross_entropy() -> None:
    """Logit 0 costs ln 2 whatever the truth; a confident hit costs nothing; NaN does not count."""
    read = Outcomes(success=torch.tensor([0.0, 30.0, -30.0]))
    losses = outcome_losses(read, Outcomes(success=torch.tensor([0.0, 1.0, NAN])), REAL)
    assert float(losses["success"]) == pytest.approx(math.log(2) / 2)


def test_a_state_with_one_unknown_number_is_left_out() -> None:
    read = Outcomes(state=torch.zeros(3, 2))
    target = Outcomes(state=torch.tensor([[1.0, 1.0], [9.0, NAN], [3.0, 1.0]]))
    assert outcome_losses(read, target, REAL) == {"state": 3.0}


def test_where_nothing_is_known_the_loss_is_zero_and_so_is_its_gradient() -> None:
    value = torch.ones(3, requires_grad=True)
    loss = outcome_losses(Outcomes(value=value), Outcomes(value=torch.full((3,), NAN)), REAL)["value"]
    loss.backward()
    assert loss == 0
    assert torch.equal(value.grad, torch.zeros(3))


def test_heads_read_one_number_each_per_scene_and_the_state() -> None:
    heads = OutcomeHeads(tokens=2, dim=4, goal_dim=3, state_dim=5, width=8)
    read = heads(torch.randn(6, 2, 4), torch.randn(6, 3))
    assert read.reward.shape == read.success.shape == read.value.shape == (6,)
    assert read.state.shape == (6, 5)


def test_without_proprioception_there_is_no_state_to_read() -> None:
    heads = OutcomeHeads(tokens=2, dim=4, goal_dim=3, state_dim=0, width=8)
    assert heads(torch.randn(6, 2, 4), torch.randn(6, 3)).state is None
