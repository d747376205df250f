"""How far ahead a world model sees: error of open-loop rollouts on recorded episodes, against copying.

At every chunk of an episode a rollout starts and is told nothing but the actions that follow. Its floor keeps
the present latents instead; both are held against the latents of what was recorded, so that the space in
which they are measured is the same. W windows, N chunks, T history moments, L frames, K tokens, D width,
h environment steps of a chunk, E episodes.
"""

from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from embodied.data.cache import FrameCache
from embodied.evaluation.diagnostics.measures import bootstrap
from embodied.evaluation.diagnostics.model import WorldModelUnderTest, see
from embodied.evaluation.diagnostics.scenes import counted


def moments(step: int, history: int, stride: int) -> list[int]:
    """The steps at which a history ends with `step`: `history` of them, none before 0."""
    return [max(0, step - stride * back) for back in reversed(range(history))]


@torch.no_grad()
def window_errors(
    history: Tensor, predicted: Tensor, future: Tensor, is_pad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared errors of a rollout and of copying the present, (W, N) each, NaN behind the episode's end.

    history: (W, T, K, D), the present last; predicted, future: (W, N, K, D); is_pad: (W, N) bool.
    """
    errors = (predicted - future).square().mean((2, 3)).double().numpy()
    copied = (history[:, -1:] - future).square().mean((2, 3)).double().numpy()
    return np.where(is_pad, np.nan, errors), np.where(is_pad, np.nan, copied)


def by_horizon(
    errors: np.ndarray, copied: np.ndarray, episodes: np.ndarray, *, chunk_steps: int, seed: int
) -> list[dict[str, Any]]:
    """Per horizon that any episode is long enough for: both errors, and what the model takes off the floor.

    errors, copied: (W, N), NaN where there is no future; episodes: (W,) to which a window belongs. `skill` is
    1 - error / copy_error, above 0 where the model beats copying; its interval comes from drawing episodes.
    """
    names = np.unique(episodes)
    member = episodes == names[:, None]  # (E, W)
    totals = np.stack([member @ np.nan_to_num(values) for values in (errors, copied)])  # (2, E, N)
    counts = member @ (~np.isnan(errors)).astype(float)  # (E, N)

    def skill(chosen: np.ndarray) -> np.ndarray:
        error, copy = totals[:, chosen].sum(1)
        return np.where(copy > 0, 1 - error / np.where(copy > 0, copy, 1), np.nan)

    reached = np.flatnonzero(counts.sum(0))
    low, high = bootstrap(lambda chosen: skill(chosen)[reached], len(names), seed=seed)
    values = skill(np.arange(len(names)))
    rows = []
    for place, index in enumerate(reached):
        count = counts[:, index].sum()
        rows.append(
            {
                "chunks": int(index) + 1,
                "steps": (int(index) + 1) * chunk_steps,
                "windows": int(count),
                "episodes": int((counts[:, index] > 0).sum()),
                "error": totals[0, :, index].sum() / count,
                "copy_error": totals[1, :, index].sum() / count,
                "skill": values[index],
                "skill_low": low[place],
                "skill_high": high[place],
            }
        )
    return rows


def horizon_errors(
    world: WorldModelUnderTest, cache: FrameCache, *, horizon: int, seed: int
) -> dict[str, Any]:
    """Roll out over the episodes of a data set. Returns `horizons`, see `by_horizon`, and `episodes`."""
    errors, copied, episodes = [], [], []
    for index in counted(len(cache.episodes), "rollout error"):
        episode = cache.episodes[index]
        rows = np.flatnonzero(cache.columns["episode_index"] == episode)
        if len(rows) <= world.chunk_steps:
            continue
        error, copy = _episode_errors(world, cache, rows, horizon)
        errors.append(error)
        copied.append(copy)
        episodes.append(np.full(len(error), episode))
    if not errors:
        return {"horizons": [], "episodes": 0}
    found = by_horizon(
        np.concatenate(errors),
        np.concatenate(copied),
        np.concatenate(episodes),
        chunk_steps=world.chunk_steps,
        seed=seed,
    )
    return {"horizons": found, "episodes": len(errors)}


@torch.no_grad()
def _episode_errors(
    world: WorldModelUnderTest, cache: FrameCache, rows: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the rollouts that start at every chunk of one episode, whose frames are `rows`."""
    h = world.chunk_steps
    chunks = (len(rows) - 1) // h
    starts = np.arange(chunks)
    past = np.array([moments(start * h, world.history, world.stride) for start in range(chunks)])  # (W, T)
    ahead = starts[:, None] + 1 + np.arange(horizon)  # (W, N), in chunks
    is_pad = ahead > chunks
    ahead = np.minimum(ahead, chunks)
    needed, place = np.unique(np.concatenate([past.ravel(), ahead.ravel() * h]), return_inverse=True)
    pictures = {name: cache.images[name][rows[needed]] for name in world.cameras}
    states = cache.columns.get(OBS_STATE, np.zeros((cache.num_frames, 0), np.float32))
    latents = see(world.encode, pictures, states[rows[needed]])[torch.from_numpy(place)]
    history = latents[: past.size].unflatten(0, past.shape)
    future = latents[past.size :].unflatten(0, ahead.shape)
    actions = world.normalise_actions(torch.from_numpy(cache.columns[ACTION][rows[: chunks * h]]))
    taken = actions.unflatten(0, (chunks, h))[torch.from_numpy(ahead - 1)]
    predicted = world.rollout(history.to(world.device), taken).float().cpu()
    return window_errors(history, predicted, future, is_pad)
