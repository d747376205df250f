"""Latent dynamics: the start, and rollouts as repeated steps."""

import pytest
import torch
from torch import Tensor

from world_models.dynamics import LatentDynamics


def make(*, stirred: bool, action_dim: int = 2, history: int = 3) -> LatentDynamics:
    """stirred: with weights that do something, as after training."""
    torch.manual_seed(0)
    dynamics = LatentDynamics(
        tokens=2, dim=8, history=history, chunk_steps=4, action_dim=action_dim, depth=2, heads=2
    )
    if stirred:
        for parameter in dynamics.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return dynamics


def inputs(action_dim: int = 2) -> tuple[Tensor, Tensor]:
    """History (5, 3, 2, 8), three chunks of four actions each."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 3, 2, 8, generator=generator), torch.randn(5, 3, 4, action_dim, generator=generator)


def test_at_first_the_world_stands_still() -> None:
    history, chunks = inputs()
    dynamics = make(stirred=False)
    assert torch.equal(dynamics.step(history, chunks[:, 0]), history[:, -1])
    assert torch.equal(dynamics.rollout(history, chunks), history[:, -1:].expand(-1, 3, -1, -1))


def test_a_rollout_is_steps_in_a_row() -> None:
    """Each step's prediction is the latest moment of the next one's history, and the oldest goes."""
    history, chunks = inputs()
    dynamics = make(stirred=True)
    first = dynamics.step(history, chunks[:, 0])
    second = dynamics.step(torch.stack([history[:, 1], history[:, 2], first], dim=1), chunks[:, 1])
    third = dynamics.step(torch.stack([history[:, 2], first, second], dim=1), chunks[:, 2])
    expected = torch.stack([first, second, third], dim=1)
    assert torch.allclose(dynamics.rollout(history, chunks), expected, atol=1e-6)
    assert not torch.allclose(first, history[:, -1])


def test_a_prediction_depends_on_the_actions_and_on_the_past() -> None:
    history, chunks = inputs()
    dynamics = make(stirred=True)
    predicted = dynamics.step(history, chunks[:, 0])
    assert not torch.allclose(dynamics.step(history, chunks[:, 1]), predicted, atol=1e-3)
    other_past = history.clone()
    other_past[:, 0] += 1
    assert not torch.allclose(dynamics.step(other_past, chunks[:, 0]), predicted, atol=1e-3)


def test_scenes_of_a_batch_do_not_see_each_other() -> None:
    history, chunks = inputs()
    dynamics = make(stirred=True)
    alone = dynamics.rollout(history[2:3], chunks[2:3])
    assert torch.allclose(dynamics.rollout(history, chunks)[2:3], alone, atol=1e-5)


def test_films_have_no_actions() -> None:
    """An action of size 0 conditions nothing and is no error."""
    history, chunks = inputs(action_dim=0)
    assert make(stirred=True, action_dim=0).rollout(history, chunks).shape == (5, 3, 2, 8)


@pytest.mark.parametrize("steps", [1, 16])
def test_any_number_of_chunks_can_be_rolled_out(steps: int) -> None:
    history, chunks = inputs()
    chunks = chunks[:, :1].expand(-1, steps, -1, -1)
    assert make(stirred=True).rollout(history, chunks).shape == (5, steps, 2, 8)
