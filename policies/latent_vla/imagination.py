"""Imagination: the backbone writes the scene's future latents, block by block, before it acts.

A block of K learned queries yields the first imagined scene; every imagined scene is the input of the next
block (hidden state -> projector -> next input), in training as at run time. The action head reads imagined
scenes only as inputs, so that whoever replaces them changes all that imagination tells it.

B batch, N imagined scenes, K latent tokens, D width.
"""

import torch
from torch import Tensor, nn

from policies.latent_vla.backbone import Backbone, Context

IMAGINATIONS = ("none", "latent", "inert")
"""`inert`: as many tokens and passes, but what the passes yield is thrown away for learned constants."""


class Imagination(nn.Module):
    """Writes and reads plans of N imagined scenes."""

    def __init__(self, *, steps: int, tokens: int, dim: int, width: int, inert: bool) -> None:
        """width: of the backbone's hidden states."""
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.step_embedding = nn.Parameter(torch.randn(steps, 1, dim) * 0.02)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.embed = nn.Linear(dim, dim)
        self.constants = nn.Parameter(torch.randn(steps, tokens, dim)) if inert else None

    def imagine(self, backbone: Backbone, context: Context) -> Tensor:
        """The plan (B, N, K, D) that follows a context of instruction and scene."""
        steps, tokens = len(self.step_embedding), len(self.queries)
        block = self.queries.expand(len(context.visible), -1, -1)
        plan: list[Tensor] = []
        for step in range(steps):
            longer = backbone.extend(context, [block])
            plan.append(self.project(longer.states[-1][:, -tokens:]).float())
            if step:
                context = longer
            block = self.embed(plan[-1]) + self.step_embedding[step]
        imagined = torch.stack(plan, dim=1)
        return imagined if self.constants is None else self.constants.expand_as(imagined)

    def blocks(self, plan: Tensor) -> list[Tensor]:
        """The plan (B, N, K, D) as blocks (B, K, D) for the backbone to read."""
        return list((self.embed(plan) + self.step_embedding).unbind(1))
