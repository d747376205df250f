"""Action heads: decode an action chunk from the backbone's per-layer states.

Flow matching (Lipman et al., arXiv 2210.02747) over the whole chunk: noise at t=0, actions at t=1. The chunk
is cut into a few tokens of several actions each, which attend to each other and, layer by layer, to the
backbone's states. L1 regression is the same network fed zeros.

Shapes: B batch, H horizon, A action size, S flow samples per observation, N action tokens, M context tokens,
D width.
"""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from policies.latent_vla.continuation import CONTINUATIONS, Memory, Prefix, draw_to
from world_models.parallel import draw_rows, masked_average
from world_models.transformer import attention, merge_heads, split_heads


class ActionHead(Protocol):
    """Decodes action chunks from per-layer backbone states."""

    def loss(self, states: tuple[Tensor, ...], actions: Tensor, is_pad: Tensor) -> Tensor:
        """states: per layer (B, M, D); actions: (B, H, A); is_pad: (B, H) bool. Returns a scalar."""
        ...

    def sample(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """noise: (B, H, A). Returns (B, H, A)."""
        ...

    def sample_many(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """noise: (B, C, H, A), several draws per observation. Returns (B, C, H, A)."""
        ...


def masked_mean(error: Tensor, is_pad: Tensor) -> Tensor:
    """Mean of error (..., H, A) over the steps where is_pad (..., H) is False."""
    real = (~is_pad).unsqueeze(-1).to(error.dtype).expand_as(error)
    return masked_average(error, real)


def flow_matching_loss(velocity: Tensor, noise: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
    """Mean squared velocity error over real steps.

    velocity, noise, actions: (..., H, A); is_pad: (..., H) bool. Returns a scalar.
    """
    return masked_mean((velocity - (actions - noise)).square(), is_pad)


class HeadBlock(nn.Module):
    """Self-attention, cross-attention to one backbone layer, MLP.

    Each is modulated by the flow time (adaLN); one projection of the time serves all blocks, every block adds
    offsets of its own (adaLN-single, PixArt-alpha, arXiv 2310.00426).
    """

    def __init__(self, dim: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False) for _ in range(3))
        self.offsets = nn.Parameter(torch.zeros(3, 3, dim))
        self.self_qkv = nn.Linear(dim, 3 * dim)
        self.self_out = nn.Linear(dim, dim)
        self.context_norm = nn.LayerNorm(context_dim)
        self.cross_q = nn.Linear(dim, dim)
        self.cross_kv = nn.Linear(context_dim, 2 * dim)
        self.cross_out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def remember(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of one backbone layer's states (B, M, D)."""
        keys, values = self.cross_kv(self.context_norm(states)).chunk(2, dim=-1)
        return split_heads(keys, self.heads), split_heads(values, self.heads)

    def forward(
        self, tokens: Tensor, modulation: Tensor, memory: tuple[Tensor, Tensor], samples: int
    ) -> Tensor:
        """tokens, returned: (B * S, N, D); modulation: (B * S, 3, 3, D); memory of B observations."""
        parts = (modulation + self.offsets).unsqueeze(3).unbind(1)
        shift, scale, gate = parts[0].unbind(1)
        read = self.self_qkv(self.norms[0](tokens) * (1 + scale) + shift)
        query, key, value = (split_heads(part, self.heads) for part in read.chunk(3, -1))
        attended = attention(query, key, value)
        tokens = tokens + (1 + gate) * self.self_out(merge_heads(attended))

        shift, scale, gate = parts[1].unbind(1)
        query = self.cross_q(self.norms[1](tokens) * (1 + scale) + shift)
        # The samples of one observation share its memory.
        query = query.unflatten(0, (-1, samples)).flatten(1, 2)
        attended = attention(split_heads(query, self.heads), *memory)
        attended = merge_heads(attended).unflatten(1, (samples, -1)).flatten(0, 1)
        tokens = tokens + (1 + gate) * self.cross_out(attended)

        shift, scale, gate = parts[2].unbind(1)
        return tokens + (1 + gate) * self.mlp(self.norms[2](tokens) * (1 + scale) + shift)


class ActionTransformer(nn.Module):
    """From a (noised) chunk, a flow time and backbone states to a chunk-shaped output."""

    def __init__(
        self,
        *,
        horizon: int,
        action_dim: int,
        tokens: int,
        dim: int,
        depth: int,
        heads: int,
        context_dim: int,
        context_layers: int,
    ) -> None:
        super().__init__()
        if horizon % tokens:
            raise ValueError(f"action_tokens={tokens}: expected a divisor of the horizon {horizon}")
        width = horizon // tokens * action_dim
        self.tokens, self.dim, self.action_dim = tokens, dim, action_dim
        self.embed = nn.Linear(width, dim)
        self.positions = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        modulation = nn.Linear(dim, 9 * dim)
        nn.init.zeros_(modulation.weight)
        nn.init.zeros_(modulation.bias)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), modulation)
        self.blocks: Iterable[Any] = nn.ModuleList(HeadBlock(dim, heads, context_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, width)
        last = context_layers - 1
        self.reads = [round(last * (block + 1) / depth) for block in range(depth)]

    def remember(self, states: tuple[Tensor, ...]) -> Memory:
        """states: per backbone layer (B, M, D). Block i reads layer `reads[i]`, the last block the last."""
        return [block.remember(states[layer]) for block, layer in zip(self.blocks, self.reads, strict=True)]

    def forward(self, chunk: Tensor, time: Tensor, memory: Memory) -> Tensor:
        """chunk: (B, S, H, A); time: (B, S) in [0, 1]. Returns (B, S, H, A)."""
        batch, samples, horizon, action_dim = chunk.shape
        tokens = self.embed(chunk.reshape(batch * samples, self.tokens, -1)) + self.positions
        modulation = self.time(sinusoidal_embedding(time.flatten(), self.dim)).unflatten(-1, (3, 3, -1))
        for block, keys_values in zip(self.blocks, memory, strict=True):
            tokens = block(tokens, modulation, keys_values, samples)
        return self.out(self.norm(tokens)).float().reshape(batch, samples, horizon, action_dim)


def sinusoidal_embedding(time: Tensor, dim: int) -> Tensor:
    """time: (B,) in [0, 1]. Returns (B, dim): sines and cosines with periods from 4 down to 0.004."""
    frequencies = torch.logspace(0, 3, dim // 2, device=time.device) * (math.pi / 2)
    angles = time[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class FlowMatchingHead(nn.Module):
    """Flow matching with Euler integration; several noise draws per observation in training.

    continuation: of `CONTINUATIONS`, how a chunk continues the one before.
    """

    def __init__(
        self, network: ActionTransformer, *, samples: int, steps: int, continuation: str = "inpainting"
    ) -> None:
        super().__init__()
        self.network, self.samples, self.steps = network, samples, steps
        self.continuation = continuation

    def loss(self, states: tuple[Tensor, ...], actions: Tensor, is_pad: Tensor) -> Tensor:
        """Flow-matching loss at `samples` random times per observation.

        Times lean towards noise, as in pi0 (arXiv 2410.24164): 1 - time is Beta(1.5, 1) distributed.
        """
        actions = actions[:, None].expand(-1, self.samples, -1, -1)
        noise = draw_rows(torch.randn, actions.shape, actions.device)
        time = 1 - draw_rows(torch.rand, actions.shape[:2], actions.device) ** (1 / 1.5)
        mixed = torch.lerp(noise, actions, time[..., None, None])
        velocity = self.network(mixed, time, self.network.remember(states))
        return flow_matching_loss(velocity, noise, actions, is_pad[:, None].expand(-1, self.samples, -1))

    def sample(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """Integrate from noise to actions, which continue a prefix."""
        return self.sample_many(states, noise[:, None], prefix)[:, 0]

    def sample_many(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """The same for several draws per observation, which share its memory and its prefix."""
        memory = self.network.remember(states)
        if prefix is not None:
            return CONTINUATIONS[self.continuation](self.network, memory, noise, prefix, self.steps)
        chunk = noise
        for step in range(self.steps):
            time = noise.new_full(noise.shape[:2], step / self.steps)
            chunk = chunk + self.network(chunk, time, memory) / self.steps
        return chunk


class RegressionHead(nn.Module):
    """L1 regression of the chunk: the network sees zeros at time 0, noise is ignored."""

    def __init__(self, network: ActionTransformer) -> None:
        super().__init__()
        self.network = network

    def loss(self, states: tuple[Tensor, ...], actions: Tensor, is_pad: Tensor) -> Tensor:
        """Mean absolute error over real steps."""
        return masked_mean((self._predict(states, actions) - actions).abs(), is_pad)

    def sample(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """The predicted chunk, its start drawn to the prefix."""
        return self.sample_many(states, noise[:, None], prefix)[:, 0]

    def sample_many(self, states: tuple[Tensor, ...], noise: Tensor, prefix: Prefix | None = None) -> Tensor:
        """The same chunk as often as there are draws: regression has only one."""
        chunk = self._predict(states, noise[:, 0])[:, None]
        if prefix is not None:
            chunk = draw_to(chunk, prefix.actions[:, None], prefix.weights)
        return chunk.expand_as(noise)

    def _predict(self, states: tuple[Tensor, ...], like: Tensor) -> Tensor:
        time = like.new_zeros(like.shape[0], 1)
        return self.network(torch.zeros_like(like)[:, None], time, self.network.remember(states))[:, 0]


ACTION_HEADS = ("flow", "regression")


def make_action_head(
    kind: str, network: ActionTransformer, *, samples: int, steps: int, continuation: str = "inpainting"
) -> ActionHead:
    """The action head of that kind; ValueError with the valid names for any other."""
    if kind == "flow":
        return FlowMatchingHead(network, samples=samples, steps=steps, continuation=continuation)
    if kind == "regression":
        return RegressionHead(network)
    raise ValueError(f"--policy.action_head={kind}: expected one of {', '.join(ACTION_HEADS)}")
