"""What every planner takes and gives: a cost, a start, noise; a plan.

A planner is a pure function. Its warm start and its random numbers are arguments, so that nothing is carried
from one decision to the next behind the caller's back, and so that the search may be compiled and never waits
for the device. Noise has a row per environment, drawn by that environment's own generator: what is planned in
one does not depend on which others are planned beside it.

B environments, C candidates, N chunks of h steps, A action size, R rounds of noise, P proposals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

Cost = Callable[[Tensor], Tensor]
"""From candidates (B, C, N, h, A) to costs (B, C), row by row; less is better, NaN is worst."""

WORST = 1e30
"""Stands for NaN: with infinity in its place, sums over candidates would be NaN again."""


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """How much a planner searches; what the table's planners do not use they ignore.

    candidates: C per iteration; elites: the best of them, which say where to look next (`gradient` has none);
    min_std: below which no sampling planner narrows; kept: elites that `icem` takes into the next iteration;
    colour: exponent of its noise's spectrum, 0 for white, 2 for a random walk; temperature: of `mppi`'s
    weights, in units of the gap between the best and the median elite; step_size: of `gradient`, in units of
    the start's standard deviation.
    """

    candidates: int = 64
    iterations: int = 4
    elites: int = 8
    min_std: float = 0.05
    kept: int = 2
    colour: float = 2.0
    temperature: float = 0.5
    step_size: float = 0.1

    def __post_init__(self) -> None:
        for item in fields(self):
            minimum = {"candidates": 3, "iterations": 1, "elites": 2}.get(item.name, 0)
            value = getattr(self, item.name)
            if value < minimum:
                raise ValueError(f"{item.name}={value}: expected at least {minimum}")
        for name, most in (("elites", self.candidates - 1), ("kept", self.elites)):
            if getattr(self, name) > most:
                raise ValueError(f"{name}={getattr(self, name)}: expected at most {most}")
        for name in ("temperature", "step_size"):
            if not getattr(self, name):
                raise ValueError(f"{name}=0: expected more than 0")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a search starts, and what it may not leave.

    mean, std: (B, N, h, A), the plans thought likely; low, high: bounds that broadcast to that shape;
    proposals: (B, P, N, h, A), plans to be among the first candidates, P less than C.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    proposals: Tensor | None = None

    def clip(self, candidates: Tensor) -> Tensor:
        """Candidates (B, C, N, h, A) within the bounds."""
        shape = self.mean.shape
        low, high = (bound.expand(shape).unsqueeze(1) for bound in (self.low, self.high))
        return torch.minimum(torch.maximum(candidates, low), high)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a search found.

    actions: (B, N, h, A), the best candidate of all; cost: (B,), its cost; mean: (B, N, h, A), where the
    search ended, from which to start the next; trace: (B, iterations), the least cost so far.
    """

    actions: Tensor
    cost: Tensor
    mean: Tensor
    trace: Tensor


class Planner(Protocol):
    """Searches for the plan of least cost."""

    @property
    def rounds(self) -> int:
        """R: rounds of noise that a search takes."""
        ...

    def plan(self, cost: Cost, start: Start, noise: Tensor) -> Plan:
        """noise: (B, R, C, N, h, A) of unit variance."""
        ...


def draw_noise(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Noise of unit variance, (B, *shape), on the generators' device: row i by `generators[i]` alone."""
    return torch.stack([torch.randn(shape, generator=each, device=each.device) for each in generators])


def shift(plan: Tensor, steps: int, fill: Tensor) -> Tensor:
    """What is left of a plan (B, N, h, A) after its first steps, followed by `fill`, broadcast to its shape.

    The warm start of the next decision.
    """
    rest = plan.flatten(1, 2)[:, steps:]
    tail = fill.expand_as(plan).flatten(1, 2)[:, rest.shape[1] :]
    return torch.cat([rest, tail], dim=1).view_as(plan)


def spread(start: Start, mean: Tensor, std: Tensor, noise: Tensor, carried: Tensor | None) -> Tensor:
    """C candidates within the bounds, (B, C, N, h, A): the mean, draws around it, last those carried over.

    mean, std: (B, N, h, A); noise: (B, C, N, h, A); carried: (B, P, N, h, A).
    """
    drawn = mean.unsqueeze(1) + std.unsqueeze(1) * noise[:, 1:]
    parts = [mean.unsqueeze(1), drawn]
    if carried is not None:
        assert carried.shape[1] < noise.shape[1], "fewer proposals than candidates"
        parts = [mean.unsqueeze(1), drawn[:, carried.shape[1] :], carried]
    return start.clip(torch.cat(parts, dim=1))


def evaluate(cost: Cost, candidates: Tensor) -> Tensor:
    """Costs (B, C), in full precision whatever the model computes in, without NaN."""
    return cost(candidates).float().nan_to_num(nan=WORST, posinf=WORST, neginf=-WORST)


def take(candidates: Tensor, index: Tensor) -> Tensor:
    """The candidates (B, C, N, h, A) at index (B, E): (B, E, N, h, A)."""
    return torch.take_along_dim(candidates, index[:, :, None, None, None], dim=1)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best plans so far: actions (B, N, h, A), cost (B,), and the costs of the bests before."""

    actions: Tensor
    cost: Tensor
    trace: tuple[Tensor, ...]

    @classmethod
    def of(cls, candidates: Tensor, costs: Tensor, before: "Best | None") -> "Best":
        """The best of candidates (B, C, N, h, A) with costs (B, C), and of those before."""
        cost, index = costs.min(dim=1)
        actions, trace = take(candidates, index.unsqueeze(1)).squeeze(1), ()
        if before is not None:
            is_better = cost < before.cost
            actions = torch.where(is_better[:, None, None, None], actions, before.actions)
            cost, trace = torch.minimum(cost, before.cost), before.trace
        return cls(actions=actions, cost=cost, trace=(*trace, cost))

    def plan(self, mean: Tensor) -> Plan:
        """As the result of a search that ended at `mean`."""
        return Plan(actions=self.actions, cost=self.cost, mean=mean, trace=torch.stack(self.trace, dim=1))
