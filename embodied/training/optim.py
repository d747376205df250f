"""Optimization: AdamW over two kinds of parameters, warm-up and cosine decay, weight averaging.

The learning rate is a pure function of the step, so it has no state to save.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from embodied.config import OptimizerConfig
from embodied.errors import UserError

ParameterGroup = dict[str, Any]


def learning_rate_factor(step: int, *, warmup_steps: int, steps: int, final_fraction: float) -> float:
    """Multiplier of the base learning rate for the update that leads from `step` to `step + 1`.

    Rises linearly to 1 over `warmup_steps` (at most half of the run), then falls along a cosine to
    `final_fraction`, which it reaches at `steps` and keeps.
    """
    warmup_steps = min(warmup_steps, steps // 2)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))


def decays(module: nn.Module, parameter_name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: only to matrices and kernels that multiply activations.

    Biases, norm scales, embedding tables and free parameters (positions, queries, read-outs) do not decay.
    """
    is_weight = parameter_name == "weight" or parameter_name.endswith("_weight")
    return is_weight and parameter.ndim >= 2 and not isinstance(module, nn.Embedding)


def parameter_groups(
    module: nn.Module, groups: Iterable[ParameterGroup], weight_decay: float
) -> list[ParameterGroup]:
    """Split each group into its decaying and its other parameters.

    A group that brings its own `weight_decay` is left whole, and its other options (such as `lr`) are kept.
    Frozen parameters are left out.
    """
    decaying = {
        id(parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if decays(owner, name, parameter)
    }
    split: list[ParameterGroup] = []
    for group in groups:
        parameters = [parameter for parameter in group["params"] if parameter.requires_grad]
        if "weight_decay" in group:
            split.append({**group, "params": parameters})
            continue
        for value, does_decay in ((weight_decay, True), (0.0, False)):
            chosen = [parameter for parameter in parameters if (id(parameter) in decaying) is does_decay]
            split.append({**group, "params": chosen, "weight_decay": value})
    return [group for group in split if group["params"]]


def make_optimizer(
    module: nn.Module, groups: Iterable[ParameterGroup], config: OptimizerConfig
) -> torch.optim.AdamW:
    """Fused AdamW over the groups' trainable parameters; each group keeps its own peak rate as `base_lr`."""
    split = parameter_groups(module, groups, config.weight_decay)
    if not split:
        raise UserError(f"{type(module).__name__} has no trainable parameter: expected at least one")
    optimizer = torch.optim.AdamW(
        split, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's peak rate by `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class WeightAverage:
    """Exponential moving average of parameters (EMA).

    Update number t (from 0) is `average = d * average + (1 - d) * parameter` with
    `d = min(decay, (1 + t) / (10 + t))`: short runs are not held back by their random start.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        """Start from the parameters' present values."""
        self._parameters: list[torch.Tensor] = list(parameters)
        self._decay = decay
        self.average = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, t: int) -> None:
        """Take the parameters' present values in, as update number `t`."""
        decay = min(self._decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(self.average, self._parameters, 1 - decay)  # type: ignore[attr-defined]

    @torch.no_grad()
    def copy_from_parameters(self) -> None:
        """Make the average equal to the parameters' present values."""
        for average, parameter in zip(self.average, self._parameters, strict=True):
            average.copy_(parameter)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the parameters' place for the duration of the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self.average, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)
