"""From a training batch to what the world model learns from: moments, chunks, outcomes.

B batch, T history moments, N chunks, H steps of a chunk, A action size, S state size.
"""

import torch
from lerobot.utils.constants import ACTION, OBS_STATE, REWARD
from torch import Tensor

from policies.latent_vla.relative_actions import ACTION_ANCHOR
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
    actions = batch[ACTION]
    if ACTION_ANCHOR in batch:
        actions = actions + batch[ACTION_ANCHOR][:, None]
    return actions.unflatten(1, (-1, chunk_size))


def future_outcomes(
    batch: dict[str, Tensor], history: int, chunk_size: int, reward_scale: Tensor
) -> Outcomes:
    """What each of the N future moments amounts to: (B, N) each, the state (B, N, S).

    reward_scale: (2,), mean and standard deviation.
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
        reward = (reward - reward_scale[0]) / reward_scale[1]
    return Outcomes(reward=reward, success=reached, state=state)
