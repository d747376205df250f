"""Latent dynamics: from the latents of a few moments and an action chunk to the latents after the chunk.

B batch, T history moments, K latent tokens, D width of a token, N steps of a rollout, h environment steps of
a chunk, A action size (0: none is known, as in films).
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from world_models.transformer import ConditionedBlock


class WorldModel(Protocol):
    """Predicts latents; what planners ask for."""

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D), the present last; chunks: (B, N, h, A). Returns (B, N, K, D)."""
        ...


class LatentDynamics(nn.Module):
    """A transformer over the latents of the last moments, conditioned on the chunk; predicts the change."""

    def __init__(
        self,
        *,
        tokens: int,
        dim: int,
        history: int,
        chunk_steps: int,
        action_dim: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.history, self.tokens = history, tokens
        self.positions = nn.Parameter(torch.randn(history, tokens, dim) * 0.02)
        width = max(1, chunk_steps * action_dim)
        self.action_dim = action_dim
        self.condition = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())
        self.embed = nn.Linear(dim, dim)
        self.blocks = nn.ModuleList(ConditionedBlock(dim, heads, dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.change = nn.Linear(dim, dim)
        # Before the first update the world stands still, the prediction to beat.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def step(self, history: Tensor, chunk: Tensor) -> Tensor:
        """history: (B, T, K, D); chunk: (B, h, A). Returns the latents after the chunk, (B, K, D)."""
        flat = chunk.flatten(1) if self.action_dim else chunk.new_zeros(len(chunk), 1)
        condition = self.condition(flat)
        tokens = (self.embed(history) + self.positions).flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return history[:, -1] + self.change(self.norm(tokens[:, -self.tokens :])).float()

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A). Returns what follows each chunk, (B, N, K, D)."""
        predicted = []
        for chunk in chunks.unbind(1):
            latents = self.step(history, chunk)
            history = torch.cat([history[:, 1:], latents.unsqueeze(1)], dim=1)
            predicted.append(latents)
        return torch.stack(predicted, dim=1)
