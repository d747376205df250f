"""Sub-goals: beside each imagined scene one word of what is pursued on the way to it, in plain English.

Each sentence is one token. The thought goes sub-goal, scene, sub-goal, scene, action (latents between words,
as in Mirage, arXiv 2506.17218): a sub-goal is read off the backbone's states of the scene before it, and
shapes the scene after it. The other orders are controls.

How likely a sentence is, and what it means, adds up from its words and pairs of words (hashed features,
Weinberger et al. 2009, arXiv 0902.2206). So what is learned of one sentence holds for others, and sentences
that no demonstration has said can be put on the list at run time: "touch the pin left of the red cube" is as
likely as "left of the" and "red cube" are.

A sub-goal can also be told as a chain of thoughts, "find the red cube; touch the pin left of it": each is
said after what the one before has found (chain of thought, Wei et al. 2022, arXiv 2201.11903; for robots,
arXiv 2407.08693). Of four relations and four colors that makes eight thoughts to learn in place of sixteen
sentences.

B batch, N imagined scenes, M read tokens, W width of the backbone's states, D width of tokens, G sub-goals.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from world_models.parallel import masked_average

SUBGOAL = "observation.subgoal"
"""(B, N) int64 in a batch: indices of the sub-goals in force now and at each future moment but the last, so
those pursued on the way to the N future moments; -1 where there is none, and behind the episode's end. For a
chain of thought (B, 1), the one in force now.
Batches without it teach nothing about sub-goals."""

CODE = 512
"""Random signs that stand for a word."""
BREAK = ";"
"""Between the thoughts of a sub-goal."""
STEP = 2.0
"""Sum of a sentence's absolute code. A step of Adam changes its logit so many times as fast as it would with
weights of its own; the change is shared with all sentences that have words in common."""


def chains(subgoals: Sequence[str], steps: int) -> tuple[list[str], list[list[int]]]:
    """The distinct thoughts of G sub-goals, and of each sub-goal the numbers of its N, the last repeated.

    steps: N. ValueError for a sub-goal of more thoughts.
    """
    parts = [list(filter(None, map(str.strip, subgoal.split(BREAK)))) or [subgoal] for subgoal in subgoals]
    for subgoal, thoughts in zip(subgoals, parts, strict=True):
        if len(thoughts) > steps:
            expected = f"expected at least {len(thoughts)}, the thoughts of {subgoal!r}"
            raise ValueError(f"--policy.imagined_steps={steps}: {expected}")
    distinct = sorted({thought for thoughts in parts for thought in thoughts})
    full = [thoughts + thoughts[-1:] * (steps - len(thoughts)) for thoughts in parts]
    return distinct, [[distinct.index(thought) for thought in thoughts] for thoughts in full]


def told_subgoals(batch: Mapping[str, Tensor], explores: Tensor, count: int) -> Tensor:
    """Indices (B, N) of the sub-goals to learn, -1 where none is known; failed episodes teach none.

    explores: (B,) bool, who comes from a failed episode; count: N.
    """
    unknown = torch.full((len(explores), count), -1, device=explores.device)
    return batch.get(SUBGOAL, unknown).masked_fill(explores[:, None], -1)


def word_codes(sentences: Sequence[str]) -> Tensor:
    """Random signs of words and of pairs of words, summed over each of G sentences: (G, CODE)."""
    codes = torch.zeros(len(sentences), CODE)
    for code, sentence in zip(codes, sentences, strict=True):
        words = sentence.lower().split()
        for part in (*words, *map(" ".join, pairwise(words))):
            generator = torch.Generator().manual_seed(zlib.crc32(part.encode()))
            code += torch.randint(2, (CODE,), generator=generator) * 2.0 - 1.0
    return STEP * codes / codes.abs().sum(1, keepdim=True).clamp(min=1.0)


class Subgoals(nn.Module):
    """Says sub-goals and reads them, as one token each.

    Starts from zeros, so that all else of a policy starts as it would without sub-goals: at first every
    sub-goal is as likely, and none means anything.
    """

    codes: Tensor

    def __init__(self, sentences: Sequence[str], *, width: int, dim: int) -> None:
        """sentences: G; width: W; dim: D."""
        super().__init__()
        self.sentences = list(sentences)
        # The configuration has them in words: checkpoints hold no second copy.
        self.register_buffer("codes", word_codes(sentences), persistent=False)
        self.norm = nn.LayerNorm(width)
        self.words = nn.Parameter(torch.zeros(CODE, width))
        self.meanings = nn.Parameter(torch.zeros(dim, CODE))

    def say(self, states: Tensor) -> Tensor:
        """Logits (B, G) of the sub-goal that follows the states (B, M, W) of the scene before it."""
        return F.linear(F.linear(self.norm(states.float()).mean(1), self.words), self.codes)

    def read(self, subgoals: Tensor) -> Tensor:
        """One token (B, 1, D) for the sub-goals with indices (B,), zeros where that is -1."""
        codes = self.codes[subgoals] * (subgoals >= 0)[:, None]
        return F.linear(codes, self.meanings).float().unsqueeze(1)


def subgoal_loss(logits: Tensor, told: Tensor) -> Tensor:
    """Mean cross-entropy over the sub-goals that are told.

    logits: (B, N, G); told: (B, N) indices, -1 where unknown. Returns a scalar, 0 if nothing is told.
    """
    error = F.cross_entropy(logits.flatten(0, 1), told.flatten(), ignore_index=-1, reduction="none")
    return masked_average(error, (told >= 0).flatten().to(error.dtype))


def subgoal_accuracy(logits: Tensor, told: Tensor) -> Tensor:
    """Share of the told sub-goals that are the likeliest; shapes as for `subgoal_loss`."""
    return masked_average((logits.argmax(2) == told).float(), (told >= 0).float())


def _interleaved(count: int) -> list[int]:
    return [place for step in range(count) for place in (step, count + step)]


def _grouped(count: int) -> list[int]:
    return [*range(count, 2 * count), *range(count)]


def _shuffled(count: int) -> list[int]:
    """A random order, always the same one for as many scenes, and neither of the others."""
    generator = torch.Generator().manual_seed(0)
    while (order := torch.randperm(2 * count, generator=generator).tolist()) in (
        _interleaved(count),
        _grouped(count),
    ):
        pass
    return order


BLOCK_ORDERS: dict[str, Callable[[int], list[int]]] = {
    "interleaved": _interleaved,
    "grouped": _grouped,
    "shuffled": _shuffled,
}
"""In which order the action head's thought holds N sub-goals, numbered from 0, and N scenes, from N."""


def in_order(order: str, subgoals: Sequence[Tensor], scenes: Sequence[Tensor]) -> list[Tensor]:
    """The blocks of N sub-goals and of N scenes in one of the `BLOCK_ORDERS`."""
    blocks = [*subgoals, *scenes]
    return [blocks[place] for place in BLOCK_ORDERS[order](len(scenes))]
