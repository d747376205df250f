"""Batches of windows in LeRobot's own layout, gathered from a `FrameCache` without a loop over samples.

`WindowLoader` draws frames in a shuffled order; `embodied.data.looks` gives whole episodes, for policies with
memory. B batch, T offsets of a key's window, H, W picture size.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.utils.constants import ACTION, OBS_PREFIX, OBS_STATE, REWARD
from torch import Tensor

from embodied.data.cache import FrameCache
from embodied.data.emphasis import emphasise
from embodied.data.selection import frames_of, select_episodes
from embodied.data.subgoals import NONE
from embodied.errors import UserError
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.subgoals import SUBGOAL
from policies.latent_vla.trajectories import STEPS_TO_SUCCESS
from policies.latent_vla.waypoint import WAYPOINT
from world_models.config import ClipConfig

Batch = dict[str, Any]


def delta_indices_of(config: PreTrainedConfig | ClipConfig, features: Iterable[str]) -> dict[str, list[int]]:
    """Offsets, in frames, of the window a model wants of each feature; others have no time dimension."""
    deltas: dict[str, list[int]] = {}
    for key in features:
        if key == REWARD and config.reward_delta_indices is not None:
            deltas[key] = list(config.reward_delta_indices)
        if key == ACTION and config.action_delta_indices is not None:
            deltas[key] = list(config.action_delta_indices)
        if key.startswith(OBS_PREFIX) and config.observation_delta_indices is not None:
            deltas[key] = list(config.observation_delta_indices)
    if isinstance(config, LatentVLAConfig) and config.subgoal_delta_indices is not None:
        deltas[SUBGOAL] = config.subgoal_delta_indices
    if isinstance(config, LatentVLAConfig) and config.waypoint_loss_weight:
        deltas[WAYPOINT] = [0]
    return deltas


def scale_images(batch: Batch) -> Batch:
    """The batch with uint8 pictures as float32 in [0, 1], on the device and in the memory order they have."""
    return {
        key: value.float().div_(255) if _is_picture(key, value) else value for key, value in batch.items()
    }


def _is_picture(key: str, value: Any) -> bool:
    return key.startswith(OBS_PREFIX) and isinstance(value, Tensor) and value.dtype == torch.uint8


def gather_windows(cache: FrameCache, frames: np.ndarray, delta_indices: dict[str, list[int]]) -> Batch:
    """The windows around `frames`, of any shape, as LeRobot's dataset and collation give them.

    Windows stop at the ends of an episode: frames beyond repeat the last one inside and are marked in
    `<key>_is_pad`. Pictures are (..., [T,] 3, H, W) uint8 with channels last in memory. Unlike LeRobot's,
    films keep a T of 1. `SUBGOAL` (..., T) int64 comes where its window is asked for and the data set has
    sub-goals; `WAYPOINT` (..., S) float32 where it is asked for, of the present alone.
    """
    batch: Batch = {}
    for key in cache.features:
        rows = frames
        if key in delta_indices:
            wanted = frames[..., None] + np.array(delta_indices[key])
            rows = wanted.clip(cache.first[frames][..., None], cache.last[frames][..., None])
            batch[f"{key}_is_pad"] = torch.from_numpy(rows != wanted)
        # NumPy copies whole pictures; torch's index_select took 4 to 60 times as long.
        if key in cache.images:
            batch[key] = torch.from_numpy(cache.images[key][rows]).movedim(-1, -3)
        elif cache.columns[key].dtype == object:
            batch[key] = cache.columns[key][rows].tolist()
        else:
            batch[key] = torch.from_numpy(np.asarray(cache.columns[key][rows]))
    batch["task"] = cache.tasks[cache.columns["task_index"][frames]].tolist()
    batch[STEPS_TO_SUCCESS] = torch.from_numpy(cache.steps_to_success[frames])
    if SUBGOAL in delta_indices and len(cache.subgoals):
        batch[SUBGOAL] = torch.from_numpy(_subgoals_around(cache, frames, delta_indices[SUBGOAL]))
    if WAYPOINT in delta_indices:
        state = cache.columns[OBS_STATE]
        batch[WAYPOINT] = torch.from_numpy(state[cache.stage_last[frames]] - state[frames])
    return batch


def _subgoals_around(cache: FrameCache, frames: np.ndarray, offsets: list[int]) -> np.ndarray:
    """Indices (..., T) of the sub-goals in force at offsets from `frames`, `NONE` outside their episode."""
    wanted = frames[..., None] + np.array(offsets)
    first, last = cache.first[frames][..., None], cache.last[frames][..., None]
    inside = (wanted >= first) & (wanted <= last)
    return np.where(inside, cache.subgoal_index[wanted.clip(first, last)], NONE)


class WindowLoader:
    """An infinite stream of batches around shuffled frames; the order is a function of seed and cursor alone.

    Without weights every frame comes once per epoch; batches run on across epochs. With them, frames are
    drawn with replacement: tasks in proportion to their weight, frames of a task equally, but for the share
    `emphasis` of all samples, which follows `embodied.data.emphasis`.
    """

    def __init__(
        self,
        cache: FrameCache,
        *,
        delta_indices: dict[str, list[int]],
        batch_size: int,
        seed: int,
        cursor: int = 0,
        task_weights: dict[str, float] | None = None,
        emphasis: float = 0.0,
        episodes: list[int] | None = None,
        place: tuple[int, int] = (0, 1),
    ) -> None:
        """cursor: samples already delivered; task_weights: per instruction, 1 for those not named.

        place: r and W, for rows r B to (r + 1) B of every batch of W B.

        Raises:
            UserError: unknown episode, or a weight that is negative, of no task, or zero for all.
        """
        check_keys(cache, delta_indices)
        self._cache = cache
        self._delta_indices = delta_indices
        self._batch_size = batch_size
        self._seed = seed
        self._cursor = cursor
        self._rank, self._processes = place
        self._frames = frames_of(cache.columns, select_episodes(cache.num_episodes, episodes))
        self._probabilities: np.ndarray | None = None
        if task_weights or emphasis:
            weighed = self._weigh(task_weights or {})
            self._probabilities = emphasise(cache, self._frames, delta_indices, weighed, emphasis)
        self._epoch = -1
        self._order = self._frames

    @property
    def num_frames(self) -> int:
        """Frames of one epoch."""
        return len(self._frames)

    def state(self) -> dict[str, int]:
        """What a new loader needs to go on from here."""
        return {"seed": self._seed, "cursor": self._cursor}

    def __iter__(self) -> "WindowLoader":
        return self

    def __next__(self) -> Batch:
        joint = self._draw(self._processes * self._batch_size)
        own = joint[self._rank * self._batch_size :][: self._batch_size]
        return gather_windows(self._cache, own, self._delta_indices)

    def _draw(self, count: int) -> np.ndarray:
        parts = []
        while count:
            epoch, offset = divmod(self._cursor, len(self._frames))
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self._shuffle(epoch)
            part = self._order[offset : offset + count]
            parts.append(part)
            self._cursor += len(part)
            count -= len(part)
        return np.concatenate(parts)

    def _shuffle(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch])
        if self._probabilities is None:
            return rng.permutation(self._frames)
        return rng.choice(self._frames, size=len(self._frames), p=self._probabilities)

    def _weigh(self, task_weights: dict[str, float]) -> np.ndarray:
        """Probability of each frame."""
        tasks = self._cache.tasks.tolist()
        for task, weight in task_weights.items():
            if task not in tasks:
                raise UserError(f"--dataset.task_weights: no task {task!r}, expected some of {tasks}")
            if weight < 0:
                raise UserError(f"--dataset.task_weights: {task!r} has weight {weight}, expected at least 0")
        task_index = self._cache.columns["task_index"][self._frames]
        sizes = np.bincount(task_index, minlength=len(tasks))
        weights = np.array([task_weights.get(task, 1.0) for task in tasks])
        per_frame = (weights / np.maximum(sizes, 1))[task_index]
        if not per_frame.sum():
            raise UserError(f"--dataset.task_weights={task_weights}: expected a weight above 0")
        return per_frame / per_frame.sum()


def check_keys(cache: FrameCache, delta_indices: dict[str, list[int]]) -> None:
    """ValueError for windows of what the cache does not hold."""
    unknown = set(delta_indices) - {*cache.features, SUBGOAL, WAYPOINT}
    if unknown:
        raise ValueError(f"windows of {sorted(unknown)}: expected some of {sorted(cache.features)}")
