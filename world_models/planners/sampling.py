"""Planners that sample: draw candidates, weigh them by their costs, draw again around the weighted mean.

CEM (Rubinstein and Kroese 2004) weighs the elites alike; iCEM (Pinneri et al., arXiv 2008.06389) draws them
with coloured noise, smooth in time, and carries the best over; MPPI (Williams et al., arXiv 1509.01149)
weighs by exp(-cost). The number of candidates stays the same in each iteration.

B environments, C candidates, E elites, N chunks of h steps, A action size, R rounds of noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from world_models.planners.interface import Best, Cost, Plan, PlannerConfig, Start, evaluate, spread, take

Weigh = Callable[[Tensor, PlannerConfig], Tensor]
"""From the elites' costs (B, E), ascending, to their weights (B, E), which sum to 1."""


def alike(costs: Tensor, config: PlannerConfig) -> Tensor:
    """CEM's weights: 1 / E each."""
    return torch.full_like(costs, 1 / config.elites)


def by_cost(costs: Tensor, config: PlannerConfig) -> Tensor:
    """MPPI's weights, in units of the gap between best and median, so that the cost's own does not matter."""
    least, median = costs[:, :1], costs[:, config.elites // 2 : config.elites // 2 + 1]
    gap = (median - least).clamp_min(torch.finfo(costs.dtype).tiny)
    return (-(costs - least) / (config.temperature * gap)).softmax(dim=1)


def coloured(noise: Tensor, exponent: float) -> Tensor:
    """White noise (..., N, h, A) with power falling as 1 / frequency^exponent over its N * h steps.

    Unit variance stays. A product with a circulant matrix, which is the same as weighing the spectrum; so the
    end of a plan is as much like its start as neighbours are.
    """
    steps = noise.shape[-3] * noise.shape[-2]
    time = torch.arange(steps, device=noise.device)
    frequency = torch.minimum(time, steps - time).clamp_min(1)
    amplitude = frequency ** (-exponent / 2)
    angle = 2 * math.pi / steps * (time[:, None] * time % steps)
    kernel = (amplitude * angle.cos()).sum(1)
    kernel = kernel / kernel.square().sum().sqrt()
    with torch.autocast(noise.device.type, enabled=False):
        mixed = kernel[(time[:, None] - time) % steps] @ noise.flatten(-3, -2)
    return mixed.view_as(noise)


@dataclass(frozen=True, kw_only=True)
class SamplingPlanner:
    """Implements `Planner`."""

    config: PlannerConfig
    weigh: Weigh
    colour: float = 0.0
    kept: int = 0

    @property
    def rounds(self) -> int:
        """One round of noise per iteration."""
        return self.config.iterations

    def plan(self, cost: Cost, start: Start, noise: Tensor) -> Plan:
        """noise: (B, R, C, N, h, A)."""
        if self.colour:
            noise = coloured(noise, self.colour)
        mean, std, carried, best = start.mean, start.std, start.proposals, None
        for draws in noise.unbind(1):
            candidates = spread(start, mean, std, draws, carried)
            costs = evaluate(cost, candidates)
            best = Best.of(candidates, costs, best)
            elite_costs, index = costs.topk(self.config.elites, dim=1, largest=False)
            elites = take(candidates, index)
            weights = self.weigh(elite_costs, self.config)[:, :, None, None, None]
            mean = (weights * elites).sum(1)
            variance = (weights * (elites - mean.unsqueeze(1)).square()).sum(1)
            std = variance.sqrt().clamp_min(self.config.min_std)
            carried = elites[:, : self.kept] if self.kept else None
        assert best is not None
        return best.plan(mean)


def cem(config: PlannerConfig) -> SamplingPlanner:
    """The cross-entropy method."""
    return SamplingPlanner(config=config, weigh=alike)


def icem(config: PlannerConfig) -> SamplingPlanner:
    """CEM with coloured noise and elites kept from one iteration to the next."""
    return SamplingPlanner(config=config, weigh=alike, colour=config.colour, kept=config.kept)


def mppi(config: PlannerConfig) -> SamplingPlanner:
    """Model predictive path integral control."""
    return SamplingPlanner(config=config, weigh=by_cost)
