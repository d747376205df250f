"""Interventions: another plan in the place of the imagined one, while scene and instruction stay as they are.

What the policy then does differently, its plan was the cause of. `mean` and `other_episode` take plans from a
calibration, `other_instruction` instructions; whoever runs the policy computes it once, from episodes that it
names. Which of several replacements a decision gets follows from its own noise alone, so that neither the
rest of the batch nor the calls before change an episode.

B batch, N imagined scenes, P tokens of each and its sub-goal, D width, M calibration plans,
I instructions, L tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

NOISE_PLANS = 256
"""Different draws of noise; enough that an episode rarely sees one twice."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was imagined elsewhere, and what else could have been said.

    plans: (M, N, P, D), imagined in states of other episodes, each under its own instruction; tokens, mask:
    (I, L) distinct instructions as the policy reads them.
    """

    plans: Tensor
    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """A plan and what it came from.

    plan: (B, N, P, D); tokens, mask: (B, L), the instruction; draw: (B,) between 0 and 1, of each decision;
    imagine: the plan that instructions given as tokens and mask yield in the same scenes.
    """

    plan: Tensor
    tokens: Tensor
    mask: Tensor
    draw: Tensor
    imagine: Callable[[Tensor, Tensor], Tensor]


def draw_of(noise: Tensor) -> Tensor:
    """A number between 0 and 1 (B,) from each decision's standard normal noise (B, ...)."""
    return torch.special.ndtr(noise.flatten(1)[:, -1].float())


def replace_plan(name: str, imagined: Imagined, calibration: Calibration | None) -> Tensor:
    """The plan (B, N, P, D) that takes the place of the imagined one.

    name: a key of INTERVENTIONS. Raises ValueError without the calibration that it needs.
    """
    if name in CALIBRATED and calibration is None:
        raise ValueError(f"--policy.intervention={name}: expected a calibration, found none")
    return INTERVENTIONS[name](imagined, calibration)


def _none(imagined: Imagined, calibration: Calibration | None) -> Tensor:
    return imagined.plan


def _mean(imagined: Imagined, calibration: Calibration | None) -> Tensor:
    assert calibration is not None
    return calibration.plans.mean(0).expand_as(imagined.plan)


def _noise(imagined: Imagined, calibration: Calibration | None) -> Tensor:
    """Of each plan's own mean and standard deviation."""
    plan = imagined.plan
    deviation, mean = torch.std_mean(plan, dim=(1, 2, 3), keepdim=True)
    noise = _noise_plans(plan.shape[1:], plan.device)
    return mean + deviation * noise[_pick(imagined.draw, NOISE_PLANS)]


def _other_episode(imagined: Imagined, calibration: Calibration | None) -> Tensor:
    assert calibration is not None
    return calibration.plans[_pick(imagined.draw, len(calibration.plans))]


def _other_instruction(imagined: Imagined, calibration: Calibration | None) -> Tensor:
    """What the same scene would have led to, had another of the known instructions been given."""
    assert calibration is not None
    count = len(calibration.tokens)
    if count < 2:
        raise ValueError(
            f"--policy.intervention=other_instruction: expected a calibration with two instructions or more, "
            f"found {count}"
        )
    own = _is_same(imagined.tokens, imagined.mask, calibration).int().argmax(1)
    other = (own + 1 + _pick(imagined.draw, count - 1)) % count
    return imagined.imagine(calibration.tokens[other], calibration.mask[other])


INTERVENTIONS: dict[str, Callable[[Imagined, Calibration | None], Tensor]] = {
    "none": _none,
    "mean": _mean,
    "noise": _noise,
    "other_episode": _other_episode,
    "other_instruction": _other_instruction,
}

CALIBRATED = ("mean", "other_episode", "other_instruction")
"""Those that need a calibration."""


def _pick(draw: Tensor, count: int) -> Tensor:
    """Which of `count` things each draw means, (B,)."""
    return (draw * count).long().clamp(max=count - 1)


@cache
def _noise_plans(shape: torch.Size, device: torch.device) -> Tensor:
    """(NOISE_PLANS, N, P, D) standard normal numbers, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NOISE_PLANS, *shape, generator=generator).to(device)


def _is_same(tokens: Tensor, mask: Tensor, calibration: Calibration) -> Tensor:
    """Which of the calibration's instructions each of (B, L) is, (B, I) bool; not one has to be."""
    length = max(tokens.shape[1], calibration.tokens.shape[1])
    said, known = (
        F.pad(ids.masked_fill(~real.bool(), -1), (0, length - ids.shape[1]), value=-1)
        for ids, real in ((tokens, mask), (calibration.tokens, calibration.mask))
    )
    return (said[:, None] == known).all(2)
