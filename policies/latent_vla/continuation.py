"""How a flow-matching chunk is made to continue the one before (real-time chunking).

Either way weights (B, P), `prefix_weights`, say how much each action that is left of the former chunk binds:
where it is 1, the chunk holds that very action.

`inpainting`: before every Euler step the start of the chunk is drawn to the straight path from the noise to
what is left. The network then sees a start that fits, but what it makes of the rest need not follow.
`guidance` (Black et al., arXiv 2506.07339, after Pokle et al., arXiv 2310.04432): at every step the actions
that the velocity leads to, A1 = A + (1 - t) v(A, t), are compared with what is left, Y, and the velocity is
corrected by the gradient of that error with respect to A, so that the whole chunk turns:

    v + min(beta, (1 - t) / (t r²)) (Y - A1)ᵀ diag(W) ∂A1/∂A        r² = (1 - t)² / (t² + (1 - t)²)

It takes a backward pass per step, which an exported graph does not have. A policy that is sure of its actions
hardly turns: its A1 does not depend on A. scripts/rtc_delay.py compares the two.

Shapes: B batch, S draws, H horizon, A action size, P steps left of the chunk before.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from policies.real_time_chunking import prefix_weights

Memory = list[tuple[Tensor, Tensor]]
"""Keys and values of the context, one pair per layer of the head."""

Network = Callable[[Tensor, Tensor, Memory], Tensor]
"""Velocity (B, S, H, A) at a chunk (B, S, H, A) and times (B, S), given the context."""

BETA = 5.0
"""Largest weight of the correction, as in the paper: more makes few steps unstable."""


class Prefix(NamedTuple):
    """What a chunk continues. actions: (B, P, A); weights: (B, P), 1 where it must not differ, 0 if free."""

    actions: Tensor
    weights: Tensor


def left_over(actions: Tensor, delay: int) -> Prefix:
    """The actions (B, P, A) that a former chunk has left, weighed by `prefix_weights`."""
    weights = torch.tensor(prefix_weights(actions.shape[1], delay)).to(actions)
    return Prefix(actions, weights.expand(len(actions), -1))


def draw_to(chunk: Tensor, goal: Tensor, weights: Tensor) -> Tensor:
    """The chunk (B, S, H, A) whose start is drawn to the goal (B, S or 1, P, A), by weights (B, P)."""
    left = goal.shape[2]
    held = torch.lerp(chunk[..., :left, :], goal, weights[:, None, :, None])
    return torch.cat([held, chunk[..., left:, :]], dim=-2)


def inpaint(network: Network, memory: Memory, noise: Tensor, prefix: Prefix, steps: int) -> Tensor:
    """Integrate from noise (B, S, H, A); the start follows its own straight path, as far as it is bound."""
    goal, chunk = prefix.actions[:, None], noise
    start = noise[..., : goal.shape[2], :]
    for step in range(steps):
        time = step / steps
        chunk = draw_to(chunk, torch.lerp(start, goal, time), prefix.weights)
        chunk = chunk + network(chunk, noise.new_full(noise.shape[:2], time), memory) / steps
    return draw_to(chunk, torch.lerp(start, goal, 1.0), prefix.weights)


def guide(network: Network, memory: Memory, noise: Tensor, prefix: Prefix, steps: int) -> Tensor:
    """Integrate from noise (B, S, H, A), the whole chunk turned towards what is left."""
    goal, bound = prefix.actions[:, None], prefix.weights[:, None, :, None]
    left = goal.shape[2]
    # Whoever calls may be in inference mode, whose tensors have no gradients; copies made outside it do.
    with torch.inference_mode(False), torch.enable_grad():
        memory = [(keys.clone(), values.clone()) for keys, values in memory]
        goal, bound, chunk = goal.clone(), bound.clone(), noise.clone()
        for step in range(steps):
            time = step / steps
            chunk = chunk.detach().requires_grad_()
            velocity = network(chunk, chunk.new_full(chunk.shape[:2], time), memory)
            end = chunk + (1 - time) * velocity
            error = torch.zeros_like(chunk)
            error[..., :left, :] = (goal - end[..., :left, :].detach()) * bound
            (turn,) = torch.autograd.grad(end, chunk, error)
            chunk = chunk + (velocity + _strength(time) * turn) / steps
    return draw_to(chunk.detach(), goal, (prefix.weights >= 1).to(chunk.dtype))


def _strength(time: float) -> float:
    """Weight of the correction at a time in [0, 1)."""
    return BETA if time == 0 else min(BETA, (time**2 + (1 - time) ** 2) / (time * (1 - time)))


CONTINUATIONS = {"guidance": guide, "inpainting": inpaint}
