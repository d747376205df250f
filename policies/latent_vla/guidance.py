"""Guidance: where to look follows from what is asked for.

Of the K latent visual tokens the last G have queries that depend on the instruction: their attention over the
pictures' features, and the place that it reads out, are of the thing that is named, in one bilinear step.
Without it the latents have to hold all that could be asked for, and the words find it among them only after
many times as many samples. The words are read here as a bag of short pieces (Kim 2014, arXiv 1408.5882),
whose codes differ from the first step on; a language model's states of two instructions that differ in one
word hardly do.

Shapes: B batch, L instruction tokens, V cameras, G guided tokens, C feature channels.
"""

import torch
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from torch import Tensor, nn

PIECE = 8
"""Tokens, bytes for a policy from scratch, that a piece is long: a word and its neighbour."""
EMBEDDING, PIECES = 32, 256
"""Width of a token's embedding, and how many kinds of pieces are told apart."""


class Guidance(nn.Module):
    """Turns instructions into changes of queries."""

    def __init__(self, *, vocabulary: int, cameras: int, tokens: int, heads: int, channels: int) -> None:
        """vocabulary: how many tokens of instructions there are; tokens: G, of `heads` each."""
        super().__init__()
        self.shape = (cameras, tokens * heads, channels)
        self.embed = nn.Embedding(vocabulary, EMBEDDING)
        self.pieces = nn.Conv1d(EMBEDDING, PIECES, PIECE, padding=PIECE - 1, bias=False)
        self.norm = nn.LayerNorm(PIECES)
        self.change = nn.Linear(PIECES, cameras * tokens * heads * channels)
        # Queries that differ at random from instruction to instruction learn several times more slowly.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def describe(self, instruction: Tensor, mask: Tensor) -> Tensor:
        """Return which pieces occur, (B, PIECES). instruction: (B, L) ids; mask: (B, L), True on real."""
        embedded = self.embed(instruction) * mask[..., None].to(self.embed.weight)
        found = torch.relu(self.pieces(embedded.transpose(1, 2))).amax(dim=2)
        return self.norm(found)

    def forward(self, instruction: Tensor, mask: Tensor, known: Tensor | float = 0.0) -> Tensor:
        """Return what to add to the queries, (B, V, G * heads, C); takes what `describe` takes.

        known: (B, PIECES), what else decides where to look.
        """
        return self.change(self.describe(instruction, mask) + known).unflatten(1, self.shape)


def guide(guidance: Guidance | None, batch: dict[str, Tensor], looks: int = 1) -> Tensor | None:
    """What the batch's instructions add to the queries at each of the looks, one after the other.

    Returns (B * looks, V, G * heads, C), None without guidance.
    """
    if guidance is None:
        return None
    changes = guidance(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK])
    return changes.repeat_interleave(looks, dim=0)
