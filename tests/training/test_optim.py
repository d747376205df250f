"""Schedule, decay groups and weight averaging, against values worked out by hand."""

import pytest
import torch
from torch import nn

from embodied.config import OptimizerConfig
from embodied.errors import UserError
from embodied.training.optim import (
    WeightAverage,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.55), (20, 0.1), (99, 0.1)],
)
def test_learning_rate_rises_linearly_then_falls_along_a_cosine(step: int, factor: float) -> None:
    """Four warm-up steps, 16 of decay to a tenth: half way between 1 and 0.1 after eight of them."""
    computed = learning_rate_factor(step, warmup_steps=4, steps=20, final_fraction=0.1)
    assert computed == pytest.approx(factor)


def test_warm_up_takes_at_most_half_of_a_short_run() -> None:
    """A run of 10 steps with 200 warm-up steps reaches the full rate at its fifth step."""
    factors = [
        learning_rate_factor(step, warmup_steps=200, steps=10, final_fraction=0.0) for step in range(10)
    ]
    assert factors[4] == pytest.approx(1.0)
    assert factors[9] < 0.1


class Model(nn.Module):
    """One parameter of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)
        self.table = nn.Embedding(5, 2)
        self.attention = nn.MultiheadAttention(2, 1)
        self.queries = nn.Parameter(torch.zeros(4, 2))
        self.frozen = nn.Parameter(torch.zeros(3, 3), requires_grad=False)


def names_in(model: nn.Module, group: dict) -> set[str]:
    chosen = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def test_only_weights_of_layers_decay() -> None:
    """Biases, norms, embeddings and free parameters do not decay; frozen parameters are left out."""
    model = Model()
    decaying, other = parameter_groups(model, [{"params": model.parameters()}], 0.1)
    assert (decaying["weight_decay"], other["weight_decay"]) == (0.1, 0.0)
    assert names_in(model, decaying) == {
        "linear.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }
    assert names_in(model, other) == {
        "linear.bias",
        "norm.weight",
        "norm.bias",
        "table.weight",
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "queries",
    }


def test_a_models_own_groups_keep_their_rate_and_decay() -> None:
    """A group's `lr` is scaled by the schedule like the others; a group with its own decay is not divided."""
    model = Model()
    groups = [
        {"params": [model.linear.weight], "lr": 1e-5},
        {"params": [model.table.weight, model.linear.bias], "weight_decay": 0.5},
    ]
    optimizer = make_optimizer(model, groups, OptimizerConfig(lr=1e-3, weight_decay=0.1))
    set_learning_rate(optimizer, 0.5)
    described = [
        (group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups
    ]
    assert described == [(0.5e-5, 0.1, 1), (0.5e-3, 0.5, 2)]


def test_a_model_without_trainable_parameters_is_refused() -> None:
    """Nothing to train is the user's mistake, not a crash inside the optimizer."""
    with pytest.raises(UserError, match="no trainable parameter"):
        make_optimizer(nn.Identity(), [{"params": []}], OptimizerConfig())


def test_average_follows_its_recurrence() -> None:
    """Decay (1 + t) / (10 + t) until it exceeds the given one: 0.1, then 2/11, then 0.2 stays."""
    weight = nn.Parameter(torch.tensor([0.0]))
    average = WeightAverage([weight], decay=0.2)
    expected = 0.0
    for t, decay in enumerate([0.1, 2 / 11, 0.2, 0.2]):
        with torch.no_grad():
            weight += 1.0
        average.update(t)
        expected = decay * expected + (1 - decay) * (t + 1)
        assert average.average[0].item() == pytest.approx(expected)


def test_applied_average_is_put_in_place_and_taken_out_again() -> None:
    """Inside the block the model holds the average; afterwards both are as before, to the bit."""
    weight = nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([weight], decay=0.5)
    with torch.no_grad():
        weight += 2.0
    with average.applied():
        assert weight.item() == 1.0
    assert (weight.item(), average.average[0].item()) == (3.0, 1.0)
