"""Imagination: the backbone writes the scene's future latents, block by block, before it acts.

A block of K learned queries yields the first imagined scene; every imagined scene is the input of the next
block (hidden state -> projector -> next input), in training as at run time. The action head reads imagined
scenes only as inputs, so that whoever replaces them changes all that imagination tells it. Where sub-goals
are imagined as well, a step of a plan is a scene and, as one more token, the sub-goal on the way to it.

B batch, N imagined scenes, K latent tokens, D width, P tokens of a step: K, with sub-goals K + 1,
G sub-goals.
"""

import torch
from torch import Tensor, nn

from policies.latent_vla.backbone import Backbone, Context
from policies.latent_vla.subgoals import Subgoals, in_order

IMAGINATIONS = ("none", "latent", "inert")
"""`inert`: as many tokens and passes, but scenes that they yield are thrown away for learned constants."""


class Imagination(nn.Module):
    """Writes and reads plans of N imagined scenes."""

    def __init__(
        self,
        *,
        steps: int,
        tokens: int,
        dim: int,
        width: int,
        inert: bool,
        subgoals: int = 0,
        order: str = "interleaved",
    ) -> None:
        """width: of the backbone's hidden states; subgoals: G, 0 for none; order: one of `BLOCK_ORDERS`."""
        super().__init__()
        self.queries = nn.Parameter(torch.randn(tokens, dim) * 0.02)
        self.step_embedding = nn.Parameter(torch.randn(steps, 1, dim) * 0.02)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.embed = nn.Linear(dim, dim)
        self.constants = nn.Parameter(torch.randn(steps, tokens, dim)) if inert else None
        self.subgoals = Subgoals(count=subgoals, width=width, dim=dim) if subgoals else None
        self.order = order

    def imagine(self, backbone: Backbone, context: Context) -> Tensor:
        """The plan (B, N, P, D) that follows a context of instruction and scene."""
        return self.think(backbone, context)[0]

    def think(
        self, backbone: Backbone, context: Context, told: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The plan (B, N, P, D) and the logits (B, N, G) of its sub-goals, None if it has none.

        told: (B, N), sub-goals to go on from in place of the likeliest, where they are not -1.
        """
        steps, tokens = len(self.step_embedding), len(self.queries)
        block = self.queries.expand(context.visible.shape[0], -1, -1)
        states = context.states[-1]
        plan: list[Tensor] = []
        logits: list[Tensor] = []
        unread: list[Tensor] = []
        for step in range(steps):
            said: list[Tensor] = []
            if self.subgoals is not None:
                logits.append(self.subgoals.say(states))
                said.append(self.subgoals.read(logits[-1], None if told is None else told[:, step]))
                if self.order != "grouped":
                    unread.append(said[-1] + self.step_embedding[step])
            longer = backbone.extend(context, [*unread, block])
            states = longer.states[-1][:, -tokens:]
            scene = self.project(states).float()
            shown = scene if self.constants is None else self.constants[step].expand_as(scene)
            plan.append(torch.cat([shown, *said], dim=1))
            if step:
                context, unread = longer, []
            block = self.embed(scene) + self.step_embedding[step]
        return torch.stack(plan, dim=1), torch.stack(logits, dim=1) if logits else None

    def scenes(self, plan: Tensor) -> Tensor:
        """The scenes (B, N, K, D) of a plan (B, N, P, D)."""
        return plan[:, :, : len(self.queries)]

    def blocks(self, plan: Tensor) -> list[Tensor]:
        """The plan (B, N, P, D) as blocks (B, K, D), and (B, 1, D) of sub-goals, for the backbone to read."""
        scenes = (self.embed(self.scenes(plan)) + self.step_embedding).unbind(1)
        if self.subgoals is None:
            return list(scenes)
        said = (plan[:, :, len(self.queries) :] + self.step_embedding).unbind(1)
        return in_order(self.order, said, scenes)
