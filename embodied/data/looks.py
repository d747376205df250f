"""Whole episodes for a policy with memory: the windows of `EpisodeLoader` as flat batches of looks in a row.

The policy's processors and losses see a batch of B * W looks like any other; only its memory knows that W of
them belong together. Looks behind an episode's end are padding like any steps behind it.
"""

from typing import Any

from torch import Tensor

from embodied.data.cache import FrameCache
from embodied.data.subgoals import NONE
from embodied.data.windows import Batch, EpisodeLoader
from embodied.errors import UserError
from policies.latent_vla.memory import IS_FIRST
from policies.latent_vla.subgoals import SUBGOAL


def flatten_windows(batch: Batch) -> Batch:
    """A batch (B, W) of `EpisodeLoader` as one of B * W looks, with `IS_FIRST` among its observations.

    `is_pad` goes into the masks of all keys; looks that are padding have no sub-goal.
    """
    batch = dict(batch)
    is_first, is_pad = batch.pop("is_first"), batch.pop("is_pad")
    flat = {key: _flatten(value) for key, value in batch.items()}
    for key in [key for key in flat if key.endswith("_is_pad")]:
        flat[key] = flat[key] | is_pad.flatten()[:, None]
    if SUBGOAL in flat:
        flat[SUBGOAL] = flat[SUBGOAL].masked_fill(is_pad.flatten()[:, None], NONE)
    return {**flat, IS_FIRST: is_first.flatten()}


def _flatten(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.flatten(0, 1)
    return [item for row in value for item in row]


class LookLoader:
    """An endless stream of batches of B whole episodes, W looks each; implements `Loader`."""

    def __init__(
        self,
        cache: FrameCache,
        *,
        delta_indices: dict[str, list[int]],
        batch_size: int,
        window: int,
        stride: int,
        seed: int,
        cursor: int = 0,
        episodes: list[int] | None = None,
    ) -> None:
        """Arguments as for `EpisodeLoader`.

        Raises:
            UserError: an episode needs more looks than `window`, or there is no such episode.
        """
        self._windows = EpisodeLoader(
            cache,
            delta_indices=delta_indices,
            batch_size=batch_size,
            window=window,
            seed=seed,
            stride=stride,
            shifted=True,
            cursor=cursor,
            episodes=episodes,
        )
        longest = self._windows.longest_episode
        needed = 1 + (longest - 2 + stride) // stride
        if window < needed:
            raise UserError(
                f"--policy.memory_window={window}: expected at least {needed}, for the longest episode has "
                f"{longest} frames and every {stride} of them are a look"
            )

    def state(self) -> dict[str, int]:
        """What a new loader needs to go on from here."""
        return self._windows.state()

    def __iter__(self) -> "LookLoader":
        return self

    def __next__(self) -> Batch:
        return flatten_windows(next(self._windows))
