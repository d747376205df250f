"""From a training batch to what the world model learns from: moments, chunks, outcomes.

B batch, T history moments, N chunks, H steps of a chunk, A action size, S state size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lerobot.utils.constants import ACTION, OBS_STATE, REWARD
from torch import Tensor

from policies.latent_vla.relative_actions import add_anchor
from world_models.outcomes import Outcomes

STEPS_TO_SUCCESS = "observation.steps_to_success"
"""(B,) in a batch: environment steps from the present to the episode's first success, at most 0 from then
on, infinite in a failed episode, NaN where the data set does not tell. Batches without it tell nothing."""


def steps_to_success(batch: dict[str, Tensor]) -> Tensor:
    """`STEPS_TO_SUCCESS` of a batch, NaN where it is not told: (B,)."""
    state = batch[OBS_STATE]
    return batch.get(STEPS_TO_SUCCESS, state.new_full((len(state),), torch.nan))


def is_exploration(batch: dict[str, Tensor]) -> Tensor:
    """Whether each sample comes from a failed episode, (B,) bool: not to be imitated, but to learn from."""
    return steps_to_success(batch).isinf()


def absolute_chunks(batch: dict[str, Tensor], chunk_size: int) -> Tensor:
    """The actions that followed, as normalised absolute chunks (B, N, H, A)."""
    return add_anchor(batch[ACTION], batch).unflatten(1, (-1, chunk_size))


def future_is_pad(batch: dict[str, Tensor], history: int) -> Tensor:
    """Which of the N future moments lie behind the episode's end, (B, N) bool."""
    return batch[f"{OBS_STATE}_is_pad"][:, history:]


def symlog(reward: Tensor) -> Tensor:
    """Compressed towards 0 (DreamerV3, arXiv 2301.04104): far from the goal, small gains are what counts."""
    return reward.sign() * reward.abs().log1p()


def reward_scale(statistics: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """Centre and spread of the data set's compressed rewards; (0, 1) where it has none."""
    if REWARD not in statistics:
        return 0.0, 1.0
    mean, deviation = (torch.as_tensor(statistics[REWARD][name]).item() for name in ("mean", "std"))
    ends = [symlog(torch.tensor(mean + side * deviation)).item() for side in (-1, 1)]
    return sum(ends) / 2, max((ends[1] - ends[0]) / 2, 1e-6)


def future_outcomes(
    batch: dict[str, Tensor], history: int, chunk_size: int, reward_scale: Tensor
) -> Outcomes:
    """What each of the N future moments amounts to: (B, N) each, the state (B, N, S).

    reward_scale: (2,), as `reward_scale` gives it.
    """
    state = batch[OBS_STATE][:, history:]
    steps = torch.arange(1, state.shape[1] + 1, device=state.device) * chunk_size
    left = steps_to_success(batch)[:, None] - steps
    unknown = left.isnan()
    reached = (left <= 0).float().masked_fill(unknown, torch.nan)
    reward = batch.get(REWARD)
    if not isinstance(reward, Tensor) or reward.ndim != 2:
        reward = reached  # the data set has none, and LeRobot's processors put a number in its place
    else:
        reward = (symlog(reward) - reward_scale[0]) / reward_scale[1]
    return Outcomes(reward=reward, success=reached, state=state)
