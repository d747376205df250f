"""Grounding: a plan in words looks for what it names.

A step of a grounded plan is a sub-goal and, in place of an imagined scene, the present pictures as seen with
it in mind: K tokens whose queries follow from the sub-goal's words (see `policies.latent_vla.guidance`). So
what was worked out or remembered, and said, decides where the policy looks before it acts. The layers are
those of a policy that reasons in words between looks (embodied chain of thought, arXiv 2407.08693; latents
between words as in Mirage, arXiv 2506.17218); the control is an `inert` plan, of the same words and as many
tokens that mean nothing.

In a chain of thoughts each look goes on from the one before: "touch the pin left of it" is looked for from
where "find the red cube" has found it, so that neither has to have been seen with the other.

Shapes: B batch, V cameras, G sub-goals, L bytes of the longest, K latent tokens, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from policies.latent_vla.guidance import PIECES, Guidance
from policies.latent_vla.tokenizer import VOCABULARY, byte_tokenizer
from policies.latent_vla.waypoint import Waypoint
from world_models.encoders import LatentQueries

FEATURES = "observation.features"
"""In a batch: features of its pictures, once they are computed, for all that looks at them."""

Look = Callable[[Tensor, Tensor | None], Tensor]
"""From indices (B,) of sub-goals, and what the look before has found, if there was one, to what is seen with
them in mind, see `Grounding.look`."""


class GoingOn(nn.Module):
    """Hands on what a look has found: where to look next, and what stays in sight. Starts from zeros."""

    def __init__(self, *, tokens: int, dim: int) -> None:
        """tokens: K; dim: D."""
        super().__init__()
        self.tokens = tokens
        self.norm = nn.LayerNorm(tokens * dim)
        self.where = nn.Linear(tokens * dim, PIECES)
        self.what = nn.Linear(dim, dim)
        for layer in (self.where, self.what):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """found: (B, P, D), of which the first K are seen. Returns (B, PIECES) and (B, K, D)."""
        seen = found[:, : self.tokens]
        return self.where(self.norm(seen.flatten(1))), self.what(seen)


class Grounding(nn.Module):
    """Sees pictures with a sub-goal in mind."""

    words: Tensor
    is_word: Tensor

    def __init__(
        self,
        subgoals: Sequence[str],
        *,
        cameras: int,
        tokens: int,
        heads: int,
        channels: int,
        waypoint: Waypoint | None = None,
        going_on: GoingOn | None = None,
    ) -> None:
        """subgoals: G, in words; waypoint: what tells where they lead, if anything does.

        going_on: what hands on to a look what the one before has found, None for looks apart.

        The rest is as for `Guidance`.
        """
        super().__init__()
        self.tokens = tokens + (waypoint is not None)
        self.waypoint, self.going_on = waypoint, going_on
        words: Any = byte_tokenizer()(list(subgoals), padding="longest", return_tensors="pt")
        # The configuration has them in words: checkpoints hold no second copy.
        self.register_buffer("words", words["input_ids"], persistent=False)
        self.register_buffer("is_word", words["attention_mask"].bool(), persistent=False)
        self.guidance = Guidance(
            vocabulary=VOCABULARY, cameras=cameras, tokens=tokens, heads=heads, channels=channels
        )

    def look(
        self,
        queries: LatentQueries,
        features: Tensor,
        state: Tensor,
        subgoals: Tensor,
        found: Tensor | None = None,
    ) -> Tensor:
        """What is seen with sub-goals (B,) in mind, (B, K, D), and as one more token where they lead.

        features: (B, V, C, h, w) of the present pictures; state: (B, S), normalised; found: what this gave
        for the thought before.
        """
        where, what = 0.0, 0.0
        if self.going_on is not None and found is not None:
            where, what = self.going_on(found)
        seen = queries(features, self.guidance(self.words[subgoals], self.is_word[subgoals], where)) + what
        if self.waypoint is None:
            return seen
        return torch.cat([seen, self.waypoint.token(seen, state)[:, None].to(seen)], dim=1)
