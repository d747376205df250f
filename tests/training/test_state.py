"""Training state: what is saved comes back to the bit."""

import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_model
from torch import nn

from embodied.config import OptimizerConfig
from embodied.training.optim import WeightAverage, make_optimizer
from embodied.training.state import (
    load_random_state,
    load_training_state,
    save_training_state,
    seed_everything,
    set_random_state,
)


def draws() -> list[float]:
    return [random.gauss(0, 1), np.random.standard_normal(), torch.randn(()).item()]


def tied_model() -> nn.Module:
    """Convolution in channels-last layout and two layers that share their weight."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.BatchNorm1d(16)
    )
    model[3].weight = model[2].weight
    return model.to(memory_format=torch.channels_last)


def take_steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, first: int
) -> None:
    for step in range(first, first + 2):
        generator = torch.Generator().manual_seed(step)
        model(torch.randn(8, 3, 4, 4, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)


def test_generators_continue_where_they_were_saved(tmp_path: Path) -> None:
    """Python's, NumPy's and torch's next draws are the same, the cached second Gaussian included."""
    model = nn.Linear(1, 1)
    optimizer = make_optimizer(model, [{"params": model.parameters()}], OptimizerConfig())
    seed_everything(3)
    draws()
    save_training_state(tmp_path, module=model, optimizer=optimizer, averaged=False, metrics={}, values={})
    expected = draws()
    seed_everything(4)
    set_random_state(*load_random_state(tmp_path))
    assert draws() == expected


def test_two_steps_a_restart_and_two_steps_equal_four_steps(tmp_path: Path) -> None:
    """Also with tied weights, buffers and a memory layout that safetensors does not keep."""
    config = OptimizerConfig(ema_decay=0.9)

    def build() -> tuple[nn.Module, torch.optim.Optimizer, WeightAverage]:
        model = tied_model()
        optimizer = make_optimizer(model, [{"params": model.parameters()}], config)
        return model, optimizer, WeightAverage(model.parameters(), config.ema_decay)

    straight, optimizer, average = build()
    take_steps(straight, optimizer, average, 0)
    with average.applied():
        save_model(straight, str(tmp_path / "model.safetensors"))
    save_training_state(
        tmp_path, module=straight, optimizer=optimizer, averaged=True, metrics={}, values={"step": 2}
    )
    take_steps(straight, optimizer, average, 2)

    resumed, new_optimizer, new_average = build()
    load_training_state(tmp_path, module=resumed, optimizer=new_optimizer, average=new_average)
    take_steps(resumed, new_optimizer, new_average, 2)

    for left, right in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(left, right)
    for left, right in zip(average.average, new_average.average, strict=True):
        assert torch.equal(left, right)
