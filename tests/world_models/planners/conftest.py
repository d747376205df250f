"""A quadratic whose optimum is known, a start, and noise per environment."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from world_models.planners import Planner, PlannerConfig, Start, draw_noise

SHAPE = (2, 3, 2)
"""N chunks, h steps, A action size."""


@pytest.fixture
def make_start() -> Callable[..., Start]:
    """Builds a start around 0 (or `mean`) of unit spread, within -2 and 2, for `batch` environments."""

    def make(batch: int = 2, mean: float = 0.0, std: float = 1.0, bound: float = 2.0, **others) -> Start:
        return Start(
            mean=torch.full((batch, *SHAPE), mean),
            std=torch.full((batch, *SHAPE), std),
            low=torch.full((SHAPE[-1],), -bound),
            high=torch.full((SHAPE[-1],), bound),
            **others,
        )

    return make


@pytest.fixture
def noise_for() -> Callable[..., Tensor]:
    """Noise for a planner, one seed per environment."""

    def draw(planner: Planner, config: PlannerConfig, seeds: tuple[int, ...] = (0, 1)) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return draw_noise(generators, (planner.rounds, config.candidates, *SHAPE))

    return draw


@pytest.fixture
def quadratic() -> Callable[[float], Callable[[Tensor], Tensor]]:
    """Builds the cost sum((actions - optimum)^2)."""
    return lambda optimum: lambda candidates: (candidates - optimum).square().sum((2, 3, 4))
