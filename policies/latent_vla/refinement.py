"""Refinement: a chunk between the best of the proposed ones, found by the cross-entropy method.

The world model is right near what it has seen, and a free search finds where it is wrong. So the search
starts from the best quarter of the action head's own chunks, as wide as they differ, and never leaves the box
that all of them span.

B batch, C candidates, H action horizon, A action size, R rounds of noise.
"""

from collections.abc import Callable

from torch import Tensor

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
