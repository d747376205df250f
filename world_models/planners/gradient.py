"""Gradient descent on the actions, through the model: C plans descend side by side, the best one counts.

Adam (Kingma and Ba, arXiv 1412.6980) with steps in units of the start's standard deviation. The cost must be
differentiable; it cannot be called inside `torch.inference_mode`.

B environments, C candidates, N chunks of h steps, A action size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from world_models.planners.interface import Best, Cost, Plan, PlannerConfig, Start, evaluate, spread

FIRST_DECAY, SECOND_DECAY = 0.9, 0.99
"""Of Adam's averages: plans are found in tens of steps, not in thousands."""


@dataclass(frozen=True, kw_only=True)
class GradientPlanner:
    """Implements `Planner`."""

    config: PlannerConfig

    @property
    def rounds(self) -> int:
        """One: where the plans start."""
        return 1

    def plan(self, cost: Cost, start: Start, noise: Tensor) -> Plan:
        """noise: (B, 1, C, N, h, A)."""

        def summed(candidates: Tensor) -> tuple[Tensor, Tensor]:
            costs = evaluate(cost, candidates)
            return costs.sum(), costs

        slope = torch.func.grad(summed, has_aux=True)
        candidates = spread(start, start.mean, start.std, noise[:, 0], start.proposals)
        step_size = self.config.step_size * start.std.unsqueeze(1)
        first, second = torch.zeros_like(candidates), torch.zeros_like(candidates)
        best = None
        for step in range(1, self.config.iterations + 1):
            gradient, costs = slope(candidates)
            best = Best.of(candidates, costs, best)
            first = torch.lerp(gradient, first, FIRST_DECAY)
            second = torch.lerp(gradient.square(), second, SECOND_DECAY)
            scale = (second / (1 - SECOND_DECAY**step)).sqrt() + 1e-12
            candidates = start.clip(candidates - step_size * first / (1 - FIRST_DECAY**step) / scale)
        best = Best.of(candidates, evaluate(cost, candidates), best)
        return best.plan(best.actions)
