"""What foreseen latents cost a planner: how far from the goal they end, how little they promise.

Pure functions over all candidates at once; a policy adds them up with weights. Less is better.

B environments, C candidates, N chunks of h steps, A action size, T history moments, K latent tokens, D width.
"""

from collections.abc import Callable

from torch import Tensor

from world_models.dynamics import WorldModel

OVER: dict[str, Callable[[Tensor], Tensor]] = {
    "final": lambda steps: steps[..., -1],
    "min": lambda steps: steps.amin(-1),
    "mean": lambda steps: steps.mean(-1),
}
"""What of (..., N) numbers, one per foreseen step, counts."""


def foresee(model: WorldModel, history: Tensor, candidates: Tensor) -> Tensor:
    """What follows each candidate: (B, C, N, K, D).

    history: (B, T, K, D), the present last; candidates: (B, C, N, h, A).
    """
    count = candidates.shape[1]
    repeated = history.repeat_interleave(count, dim=0)
    return model.rollout(repeated, candidates.flatten(0, 1)).unflatten(0, (-1, count))


def goal_distance(foreseen: Tensor, goal: Tensor, *, over: str = "final") -> Tensor:
    """Mean squared distance to the goal's latents, (B, C).

    foreseen: (B, C, N, K, D); goal: (B, N, K, D), where to be after each step, or (B, 1, K, D), the same for
    all; over: a key of `OVER`.
    """
    return OVER[over]((foreseen.float() - goal.float().unsqueeze(1)).square().mean((3, 4)))


def shortfall(readings: Tensor, *, over: str = "mean") -> Tensor:
    """The negative of what a head reads out of foreseen latents, such as reward or value: (B, C).

    readings: (B, C, N); over: a key of `OVER`, where `min` is the best of the steps.
    """
    return OVER[over](-readings.float())


def unlikeliness(candidates: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """How far plans are from what the data do, in mean squared standard deviations, (B, C).

    A model is right near its data only, and a planner finds where it is wrong. candidates: (B, C, N, h, A);
    mean, std: broadcast to (B, N, h, A).
    """
    shape = candidates[:, 0].shape
    mean, std = (moment.expand(shape).unsqueeze(1) for moment in (mean, std))
    return ((candidates - mean) / std).float().square().mean((2, 3, 4))
