"""Whole episodes for a policy with memory: as many in a row as fit into a window, as flat batches of looks.

The policy's processors and losses see a batch of B * W looks like any other; only its memory knows that W of
them stand in a row, and starts afresh at each episode's first. Looks behind a window's last episode are
padding like any steps behind an episode's end.
"""

import numpy as np
import torch

from embodied.data.cache import FrameCache
from embodied.data.emphasis import emphasise
from embodied.data.selection import frames_of, select_episodes
from embodied.data.subgoals import NONE
from embodied.data.windows import Batch, check_keys, gather_windows
from embodied.errors import UserError
from policies.latent_vla.memory import IS_DECIDED, IS_FIRST
from policies.latent_vla.subgoals import SUBGOAL


class LookLoader:
    """An endless stream of batches of B windows of W looks each; implements `Loader`.

    A batch has the layout of `WindowLoader` with B * W in place of B, and `IS_FIRST` among its observations.
    Padding goes into the masks of all keys and has no sub-goal. With `decisions`, `IS_DECIDED` tells at which
    looks to decide, as many of each window. Every episode comes once per epoch; the order is a function of
    seed and cursor alone, the cursor counting episodes.
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
        decisions: int = 0,
        emphasis: float = 0.0,
        episodes: list[int] | None = None,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        """batch_size: B; window: W; stride: frames between looks, those of one chunk; cursor: episodes given.

        decisions: looks of a window to decide at, 0 for all; emphasis: share of them drawn as
        `embodied.data.emphasis` says; place: as for `WindowLoader`, of windows.

        Raises:
            UserError: an episode needs more looks than `window`, there is no such episode, or an emphasis
                without decisions to draw.
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
        self._decisions = decisions
        self._weights = self._emphasise(emphasis, episodes)
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
        frames, is_first, is_pad, is_decided = (np.concatenate(parts) for parts in zip(*own, strict=True))
        batch = gather_windows(self._cache, frames, self._delta_indices)
        padding = torch.from_numpy(is_pad)[:, None]
        for key in [key for key in batch if key.endswith("_is_pad")]:
            batch[key] = batch[key] | padding
        if SUBGOAL in batch:
            batch[SUBGOAL] = batch[SUBGOAL].masked_fill(padding, NONE)
        if self._decisions:
            batch[IS_DECIDED] = torch.from_numpy(is_decided)
        return {**batch, IS_FIRST: torch.from_numpy(is_first)}

    def _fill(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """One window of the next episodes, (W,) each.

        Frames; which are an episode's first, which padding, and at which to decide.
        """
        start = self._cursor
        frames = np.empty(0, np.int64)
        is_first = np.zeros(self._window, bool)
        while len(frames) + len(looks := self._looks()) <= self._window:
            is_first[len(frames)] = True
            frames = np.concatenate([frames, looks])
            self._cursor += 1
        missing = self._window - len(frames)
        is_pad = np.arange(self._window) >= len(frames)
        frames = np.pad(frames, (0, missing), mode="edge")
        return frames, is_first, is_pad, self._decide(frames, is_pad, start)

    def _decide(self, frames: np.ndarray, is_pad: np.ndarray, start: int) -> np.ndarray:
        """At which looks (W,) to decide: drawn by weight without replacement, padding at the very last."""
        # Who comes first at exponential times is drawn without replacement (Efraimidis and Spirakis 2006).
        times = np.random.default_rng([self._seed, start, 2]).exponential(size=self._window)
        times = np.where(is_pad, np.inf, times / self._weights[frames])
        is_decided = np.zeros(self._window, bool)
        is_decided[np.argsort(times)[: self._decisions]] = True
        return is_decided

    def _emphasise(self, share: float, episodes: list[int] | None) -> np.ndarray:
        """How likely a decision is at each frame of the data set, 1 on average of those used."""
        if share and not self._decisions:
            raise UserError(
                f"--dataset.emphasis={share}: expected --policy.memory_decisions above 0 as well with a "
                "memory, which trains on whole episodes"
            )
        frames = frames_of(self._cache.columns, select_episodes(self._cache.num_episodes, episodes))
        equal = np.full(len(frames), 1 / len(frames))
        weights = np.zeros(self._cache.num_frames)
        weights[frames] = emphasise(self._cache, frames, self._delta_indices, equal, share) * len(frames)
        return weights

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
