"""Imagination: the backbone writes the scene's future latents, block by block, before it acts.

A block of K learned queries yields the first imagined scene; every imagined scene is the input of the next
block (hidden state -> projector -> next input), in training as at run time. The action head reads imagined
scenes only as inputs, so that whoever replaces them changes all that imagination tells it. Where sub-goals
are imagined as well, a step of a plan is a scene and, as one more token, the sub-goal on the way to it.

B batch, N imagined scenes, K latent tokens, D width, P tokens of a step: K, one more with sub-goals, and one
more where a grounded plan says its waypoint; G sub-goals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policies.latent_vla.backbone import Backbone, Context
from policies.latent_vla.grounding import Grounding, Look
from policies.latent_vla.subgoals import (
    SUBGOAL,
    Subgoals,
    in_order,
    subgoal_accuracy,
    subgoal_loss,
    told_subgoals,
)
from policies.latent_vla.trajectories import future_is_pad, is_exploration
from policies.latent_vla.waypoint import waypoint_loss
from world_models.transformer import masked_mse

if TYPE_CHECKING:
    from policies.latent_vla.configuration_latent_vla import LatentVLAConfig

IMAGINATIONS = ("none", "latent", "inert", "grounded")
"""`inert`: as many tokens and passes, but scenes that they yield are thrown away for learned constants.
`grounded`: a plan in words, whose scenes are the present one, seen with each sub-goal in mind."""


@dataclass(frozen=True, kw_only=True)
class Thought:
    """plan: (B, N, P, D); logits: (B, N, G) of its sub-goals, if it has any; told: (B, N), as for `think`."""

    plan: Tensor
    logits: Tensor | None
    told: Tensor


class Imagination(nn.Module):
    """Writes and reads plans of N imagined scenes."""

    chains: Tensor | None

    def __init__(
        self,
        *,
        steps: int,
        tokens: int,
        dim: int,
        width: int,
        inert: bool,
        subgoals: Sequence[str] = (),
        chains: Sequence[Sequence[int]] = (),
        order: str = "interleaved",
        grounding: Grounding | None = None,
    ) -> None:
        """width: of the backbone's hidden states; subgoals: G sentences, if any.

        chains: of each of the data set's sub-goals the N of these that it is thought in, if it is; order: one
        of `BLOCK_ORDERS`; grounding: what the plan looks with, None for one whose scenes are imagined or
        inert.
        """
        super().__init__()
        self.tokens, self.grounding = tokens, grounding
        if grounding is None:
            self.queries = nn.Parameter(torch.randn(tokens, dim) * 0.02)
            self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.step_embedding = nn.Parameter(torch.randn(steps, 1, dim) * 0.02)
        self.embed = nn.Linear(dim, dim)
        self.constants = nn.Parameter(torch.randn(steps, tokens, dim)) if inert else None
        self.subgoals = Subgoals(subgoals, width=width, dim=dim) if subgoals else None
        self.register_buffer("chains", torch.tensor(chains) if chains else None, persistent=False)
        self.pursued = -1 if chains else 0
        """The step of a plan that says what is pursued now."""
        self.order = order

    def imagine(self, backbone: Backbone, context: Context, look: Look | None = None) -> Tensor:
        """The plan (B, N, P, D) that follows a context of instruction and scene; look: see `think`."""
        return self.think(backbone, context, look=look)[0]

    def think(
        self, backbone: Backbone, context: Context, told: Tensor | None = None, look: Look | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The plan (B, N, P, D) and the logits (B, N, G) of its sub-goals, None if it has none.

        told: (B, N), sub-goals to go on from in place of the likeliest, where they are not -1; look: what
        yields the scenes of a grounded plan, None for any other.
        """
        if look is not None:
            return self._look_ahead(backbone, context, told, look)
        steps, tokens = len(self.step_embedding), self.tokens
        block = self.queries.expand(context.visible.shape[0], -1, -1)
        states = context.states[-1]
        plan: list[Tensor] = []
        logits: list[Tensor] = []
        unread: list[Tensor] = []
        for step in range(steps):
            said: list[Tensor] = []
            if self.subgoals is not None:
                logits.append(self.subgoals.say(states))
                said.append(self.subgoals.read(self._choose(logits[-1], told, step)))
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

    def _look_ahead(
        self, backbone: Backbone, context: Context, told: Tensor | None, look: Look
    ) -> tuple[Tensor, Tensor]:
        """What `think` gives, of a plan that is grounded."""
        assert self.subgoals is not None
        states = context.states[-1]
        plan: list[Tensor] = []
        logits: list[Tensor] = []
        for step, embedding in enumerate(self.step_embedding):
            logits.append(self.subgoals.say(states))
            chosen = self._choose(logits[-1], told, step)
            found = plan[-1] if plan else None
            said, scene = self.subgoals.read(chosen), look(chosen, found).float()
            plan.append(torch.cat([scene, said], dim=1))
            if step + 1 < len(self.step_embedding):
                context = backbone.extend(context, [said + embedding, self.embed(scene) + embedding])
                states = context.states[-1][:, -self.tokens :]
        return torch.stack(plan, dim=1), torch.stack(logits, dim=1)

    def told(self, batch: dict[str, Tensor]) -> Tensor:
        """Which sub-goal a batch tells for each step of a plan, (B, N), -1 where it tells none."""
        steps, explores = len(self.step_embedding), is_exploration(batch)
        if self.chains is None:
            return told_subgoals(batch, explores, steps)
        told = told_subgoals(batch, explores, 1)
        return torch.where(told < 0, told, self.chains[told[:, 0]])

    def pursues(self, batch: dict[str, Tensor]) -> Tensor:
        """The sub-goals that are pursued in a batch, (B, 1, D), as a plan would say them."""
        assert self.subgoals is not None
        return self.subgoals.read(self.told(batch)[:, self.pursued])

    def _choose(self, logits: Tensor, told: Tensor | None, step: int) -> Tensor:
        """Indices (B,) of the sub-goals to go on from: those told, the likeliest where that is -1."""
        chosen = logits.argmax(1)
        return chosen if told is None else torch.where(told[:, step] < 0, chosen, told[:, step])

    def loss(
        self,
        thought: Thought,
        config: "LatentVLAConfig",
        batch: dict[str, Tensor],
        rows: slice,
        future: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """How far a thought at some rows of a batch is from what came, weighted; and each error by name.

        future: (B, N, K, D), the latents that came; state: (B, S), normalised, of the present.
        """
        plan, loss, metrics = thought.plan, thought.plan.new_zeros(()), {}
        if config.imagination == "latent":
            unknown = future_is_pad(batch, config.n_obs_steps) | is_exploration(batch)[:, None]
            error = masked_mse(self.scenes(plan), future.detach(), unknown[rows])
            metrics["imagination_loss"] = error.detach()
            loss = loss + config.imagination_loss_weight * error
        if self.grounding is not None:
            seen = plan[:, self.pursued, : config.num_latents]
            error, details = waypoint_loss(self.grounding.waypoint, seen, state, batch, rows)
            loss, metrics = loss + error, metrics | details
        if thought.logits is not None and SUBGOAL in batch:
            error = subgoal_loss(thought.logits, thought.told)
            accuracy = subgoal_accuracy(thought.logits, thought.told)
            metrics |= {"subgoal_loss": error.detach(), "subgoal_accuracy": accuracy}
            loss = loss + config.subgoal_loss_weight * error
        return loss, metrics

    def scenes(self, plan: Tensor) -> Tensor:
        """The scenes (B, N, K, D) of a plan (B, N, P, D)."""
        return plan[:, :, : self.tokens]

    def blocks(self, plan: Tensor) -> list[Tensor]:
        """The plan (B, N, P, D) as blocks (B, K, D), and (B, 1, D) of sub-goals, for the backbone to read."""
        scenes = (self.embed(self.scenes(plan)) + self.step_embedding).unbind(1)
        if self.subgoals is None:
            return list(scenes)
        said = (plan[:, :, self.tokens :] + self.step_embedding).unbind(1)
        return in_order(self.order, said, scenes)
