"""Whole episodes for a policy with memory: as many in a row as fit into a window, as flat batches of looks.

The policy's processors and losses see a batch of B * W looks like any other; only its memory knows that W of
them stand in a row, and starts afresh at each episode's first. Looks behind a window's last episode are
padding like any steps behind an episode's end.
"""

import numpy as np
import torch

from embodied.data.cache import FrameCache
from embodied.data.selection import select_episodes
from embodied.data.subgoals import NONE
from embodied.data.windows import Batch, check_keys, gather_windows
from embodied.errors import UserError
from policies.latent_vla.memory import IS_FIRST
from policies.latent_vla.subgoals import SUBGOAL


class LookLoader:
    """An endless stream of batches of B windows of W looks each; implements `Loader`.

    A batch has the layout of `WindowLoader` with B * W in place of B, and `IS_FIRST` among its observations.
    Padding goes into the masks of all keys and has no sub-goal. Every episode comes once per epoch; the order
    is a function of seed and cursor alone, the cursor counting episodes.
    """

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
        place: tuple[int, int] = (0, 1),
    ) -> None:
        """batch_size: B; window: W; stride: frames between looks, those of one chunk; cursor: episodes given.

        place: as for `WindowLoader`, of windows.

        Raises:
            UserError: an episode needs more looks than `window`, or there is no such episode.
        """
        check_keys(cache, delta_indices)
        self._cache = cache
        self._delta_indices = delta_indices
        self._batch_size = batch_size
        self._window = window
        self._stride = stride
        self._seed = seed
        self._cursor = cursor
        self._rank, self._processes = place
        chosen = select_episodes(cache.num_episodes, episodes)
        self._first = np.unique(cache.first)[chosen]
        self._last = cache.last[self._first]
        self._epoch, self._order = -1, np.arange(len(chosen))
        longest = int((self._last - self._first).max()) + 1
        needed = 1 + (longest - 2 + stride) // stride
        if window < needed:
            raise UserError(
                f"--policy.memory_window={window}: expected at least {needed}, for the longest episode has "
                f"{longest} frames and every {stride} of them are a look"
            )

    def state(self) -> dict[str, int]:
        """What a new loader needs to go on from here."""
        return {"seed": self._seed, "cursor": self._cursor}

    def __iter__(self) -> "LookLoader":
        return self

    def __next__(self) -> Batch:
        joint = [self._fill() for _ in range(self._processes * self._batch_size)]
        own = joint[self._rank * self._batch_size :][: self._batch_size]
        frames, is_first, is_pad = (np.concatenate(parts) for parts in zip(*own, strict=True))
        batch = gather_windows(self._cache, frames, self._delta_indices)
        padding = torch.from_numpy(is_pad)[:, None]
        for key in [key for key in batch if key.endswith("_is_pad")]:
            batch[key] = batch[key] | padding
        if SUBGOAL in batch:
            batch[SUBGOAL] = batch[SUBGOAL].masked_fill(padding, NONE)
        return {**batch, IS_FIRST: torch.from_numpy(is_first)}

    def _fill(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One window of the next episodes, (W,) each: frames, which are an episode's first, which padding."""
        frames = np.empty(0, np.int64)
        is_first = np.zeros(self._window, bool)
        while len(frames) + len(looks := self._looks()) <= self._window:
            is_first[len(frames)] = True
            frames = np.concatenate([frames, looks])
            self._cursor += 1
        missing = self._window - len(frames)
        return np.pad(frames, (0, missing), mode="edge"), is_first, np.arange(self._window) >= len(frames)

    def _looks(self) -> np.ndarray:
        """Frames of the next episode's looks.

        All but the first come up to a stride early, by another number of steps at each visit, so that all
        frames are seen in time.
        """
        epoch, place = divmod(self._cursor, len(self._first))
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._first))
            self._epoch, self._order = epoch, order
        first, last = (ends[self._order[place]] for ends in (self._first, self._last))
        early = np.random.default_rng([self._seed, self._cursor, 1]).integers(self._stride)
        later = np.arange(self._stride - early, last - first + 1, self._stride)
        return first + np.concatenate([[0], later])
