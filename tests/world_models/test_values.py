"""Values by temporal differences: one step back from the reward and the value a chunk later."""

import pytest
import torch

from world_models.jepa import Trajectory, _temporal_difference
from world_models.outcomes import Outcomes, expectile_loss


def trajectory(*, is_pad: bool = False, success: float = 0.0, reward: float = 1.0) -> Trajectory:
    """One episode, one chunk."""
    nothing = torch.zeros(1, 1, 1, 1)
    return Trajectory(
        history=nothing,
        chunks=nothing,
        future=nothing,
        is_pad=torch.tensor([[is_pad]]),
        goal=torch.zeros(1, 1),
        outcomes=Outcomes(reward=torch.tensor([[reward]]), success=torch.tensor([[success]])),
    )


def test_the_target_is_a_tenth_of_the_reward_and_the_rest_of_the_value_a_chunk_later() -> None:
    values = torch.tensor([[0.55, 0.5]])
    assert _temporal_difference(values, trajectory()).item() == pytest.approx(0, abs=1e-12)
    too_low = torch.tensor([[0.45, 0.5]])
    assert _temporal_difference(too_low, trajectory()).item() == pytest.approx(0.8 * 0.1**2, rel=1e-4)


def test_the_value_a_chunk_later_is_not_moved() -> None:
    values = torch.tensor([[0.0, 0.5]], requires_grad=True)
    _temporal_difference(values, trajectory()).backward()
    assert values.grad is not None
    assert values.grad[0, 0] != 0
    assert values.grad[0, 1] == 0


@pytest.mark.parametrize(("success", "counts"), [(1.0, True), (0.0, False), (torch.nan, False)])
def test_behind_its_end_an_episode_goes_on_as_it_was_only_after_a_success(success, counts) -> None:
    loss = _temporal_difference(torch.tensor([[0.0, 0.5]]), trajectory(is_pad=True, success=success))
    assert bool(loss > 0) == counts


def test_an_unknown_reward_teaches_nothing() -> None:
    assert _temporal_difference(torch.tensor([[0.0, 0.5]]), trajectory(reward=torch.nan)) == 0


def test_an_expectile_lies_above_the_mean_of_equally_likely_outcomes() -> None:
    outcomes = torch.tensor([0.0, 1.0])
    candidates = torch.linspace(0, 1, 101)
    losses = [
        expectile_loss(c.expand(2), outcomes, torch.zeros(2, dtype=torch.bool), 0.8) for c in candidates
    ]
    assert candidates[torch.stack(losses).argmin()].item() == pytest.approx(0.8, abs=0.011)
