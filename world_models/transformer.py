"""Transformer parts that the dynamics and the action head share: attention over few tokens, adaLN blocks.

B batch, N tokens, D width.
"""

import torch
from torch import Tensor, nn

from world_models.parallel import masked_average


def attention(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Softmax attention over few tokens, (B, heads, N, d) each: on a CPU faster than torch's fused kernel.

    hidden: (B, N) bool, keys that nothing attends to, unless all of a row's are hidden.
    """
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], -1e4)
    return scores.float().softmax(-1).to(value.dtype) @ value


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, D) as (B, heads, N, D / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """(B, heads, N, D / heads) as (B, N, D)."""
    return tokens.transpose(1, 2).flatten(2)


class ConditionedBlock(nn.Module):
    """Self-attention and MLP, each shifted, scaled and gated by a condition (adaLN, arXiv 2212.09748)."""

    def __init__(self, dim: int, heads: int, condition_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(condition_dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """tokens, returned: (B, N, D); condition: (B, condition_dim)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = (
            self.modulation(condition).unsqueeze(1).chunk(6, dim=-1)
        )
        read = self.norms[0](tokens) * (1 + scale) + shift
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(read).chunk(3, dim=-1))
        tokens = tokens + (1 + gate) * self.out(merge_heads(attention(query, key, value)))
        return tokens + (1 + mlp_gate) * self.mlp(self.norms[1](tokens) * (1 + mlp_scale) + mlp_shift)


def masked_mse(predicted: Tensor, target: Tensor, is_pad: Tensor) -> Tensor:
    """Mean squared error over the rows where is_pad is False.

    predicted, target: (*is_pad.shape, ...); is_pad: bool. Returns a scalar, 0 where everything is padding.
    """
    error = (predicted.float() - target.float()).square().unsqueeze(-1).flatten(is_pad.ndim).mean(-1)
    real = (~is_pad).to(error.dtype)
    return masked_average(error, real)


def participation_ratio(latents: Tensor) -> Tensor:
    """Effective rank of a batch of latents, in dimensions: (tr C)^2 / tr C^2 of their covariance C.

    latents: (B, ...). Returns a scalar from 0 (all equal) to at most B - 1. Computed from the Gram matrix.
    """
    centred = latents.detach().float().flatten(1)
    centred = centred - centred.mean(0)
    gram = centred @ centred.T
    return gram.trace().square() / gram.square().sum().clamp_min(torch.finfo(gram.dtype).tiny)
