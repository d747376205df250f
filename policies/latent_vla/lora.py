"""Low-rank adaptation of frozen linear layers (LoRA, arXiv 2106.09685).

A frozen layer W gains (alpha / rank) B A, with A random and B zero: training starts from what the layer did
before, and what it has learned can be added into W.
"""

from collections.abc import Collection

import torch
from torch import Tensor, nn

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a language model's block, by the name that transformers gives it."""


class LoRALinear(nn.Module):
    """A linear layer, itself frozen, with a trainable update of low rank beside it."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        like = base.weight
        self.down = nn.Linear(base.in_features, rank, bias=False, device=like.device, dtype=like.dtype)
        self.up = nn.Linear(rank, base.out_features, bias=False, device=like.device, dtype=like.dtype)
        nn.init.zeros_(self.up.weight)
        self.scale = alpha / rank

    def forward(self, features: Tensor) -> Tensor:
        """features: (..., in). Returns (..., out)."""
        return self.base(features) + self.up(self.down(features)) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain, trainable layer that does the same; this one stays as it is."""
        base = self.base
        layer = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None)
        layer = layer.to(base.weight)
        layer.weight.copy_(base.weight + self.up.weight @ self.down.weight * self.scale)
        if base.bias is not None:
            layer.bias.copy_(base.bias)
        return layer


def add_lora(
    module: nn.Module, *, rank: int, alpha: float, projections: Collection[str] = PROJECTIONS
) -> None:
    """Freeze a module, and adapt those of its linear layers, at any depth, that bear one of these names.

    Raises ValueError if there is none.
    """
    module.requires_grad_(False)
    chosen = [
        (owner, name, layer)
        for owner in list(module.modules())
        for name, layer in owner.named_children()
        if name in projections and isinstance(layer, nn.Linear)
    ]
    if not chosen:
        raise ValueError(
            f"LoRA: {type(module).__name__} has no linear layer of these names: {', '.join(projections)}"
        )
    for owner, name, layer in chosen:
        setattr(owner, name, LoRALinear(layer, rank=rank, alpha=alpha))


def merge_lora(module: nn.Module) -> None:
    """Replace every adapted layer of a module, at any depth, by one plain layer that does the same."""
    for owner in list(module.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(owner, name, layer.merged())
