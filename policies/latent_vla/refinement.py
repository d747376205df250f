"""Refinement: a chunk between the best of the proposed ones, found by the cross-entropy method.

The world model is right near what it has seen, and a free search finds where it is wrong. So the search
starts from the best quarter of the action head's own chunks, as wide as they differ, and never leaves the box
that all of them span.

B batch, C candidates, H action horizon, A action size, R rounds of noise.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from world_models.planners import PlannerConfig, Start, make_planner


def refine(score: Callable[[Tensor], Tensor], candidates: Tensor, scores: Tensor, noise: Tensor) -> Tensor:
    """The best chunk found, (B, H, A); by `score` never worse than the best candidate.

    score: from chunks (B, C, H, A) to (B, C), more is better; candidates: (B, C, H, A), and their scores
    (B, C); noise: (B, R * C, H, A) of unit variance.
    """
    count = candidates.shape[1]
    elites = max(2, count // 4)
    best = scores.topk(elites, dim=1).indices[:, :, None, None]
    proposals = candidates.take_along_dim(best, dim=1)
    rounds = noise.unflatten(1, (-1, count)).unsqueeze(3)
    config = PlannerConfig(candidates=count, iterations=rounds.shape[1], elites=elites, kept=0, min_std=0.0)
    start = Start(
        mean=proposals.mean(1, keepdim=True),
        std=proposals.std(1, keepdim=True),
        low=candidates.amin(1, keepdim=True),
        high=candidates.amax(1, keepdim=True),
        proposals=proposals.unsqueeze(2),
    )
    plan = make_planner("cem", config).plan(lambda plans: -score(plans.squeeze(2)), start, rounds)
    return plan.actions.squeeze(1)


def choose(
    config: LatentVLAConfig,
    candidates: Tensor,
    score: Callable[[Tensor], Tensor],
    noise: Tensor,
    refining: Tensor,
) -> Tensor:
    """The best of C chunks (B, C, H, A) by the score (B, C) of such, or one refined of them: (B, H, A).

    Of the candidates the last `config.exploration` share explore, at a cost. noise: (B, C, H, A), what they
    were drawn from, which deals out the scores where `config.ranking` is `shuffled`; refining: (B, R * C, H,
    A), the noise of `refine`.
    """
    exploring = round(config.candidates * config.exploration)
    cost = torch.arange(config.candidates, device=noise.device) >= config.candidates - exploring
    scores = score(candidates) - config.exploration_cost * cost
    if config.planner == "cem":
        return refine(score, candidates, scores, refining)
    if config.ranking == "shuffled":
        scores = noise[:, :, -1, -1]  # as good as dealt out at random, and seeded
    best = scores.argmax(dim=1)
    return candidates[torch.arange(len(best), device=best.device), best]
