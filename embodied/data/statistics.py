"""Statistics for normalisation: of the frames that are trained on, and of nothing else.

Those of states and actions are computed here, not read from stats.json: an episode that was left out must not
stretch the range, older data sets have no quantiles, and the quantiles of newer ones are averages over
episodes. Only those of pictures stay those of the whole data set. N frames, D dimensions.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from lerobot.configs.policies import PreTrainedConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_STATE, REWARD

from embodied.data.cache import FrameCache
from embodied.data.selection import number_keys
from policies.latent_vla import LatentVLAConfig
from policies.latent_vla.relative_actions import ABSOLUTE, RELATIVE_ACTION, relative_sources

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
"""The names LeRobot gives them."""

Statistics = dict[str, dict[str, np.ndarray]]


def statistics_of(values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, standard deviation, extremes and quantiles over the first axis of (N, D), each (D,)."""
    exact = values.astype(np.float64)
    quantiles = np.quantile(exact, list(QUANTILES.values()), axis=0)
    return {
        "min": exact.min(axis=0),
        "max": exact.max(axis=0),
        "mean": exact.mean(axis=0),
        "std": exact.std(axis=0),
        "count": np.array([len(exact)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def training_statistics(
    policy: PreTrainedConfig | None, metadata: LeRobotDatasetMetadata, cache: FrameCache
) -> Statistics:
    """Statistics of everything that may be seen, and of rewards, in the chosen episodes of `cache`.

    policy: who sees it; None: a world model, which needs no others than most policies do.

    Raises:
        ValueError: relative actions, but no joint is named the same in state and action.
    """
    stored = metadata.stats or {}
    statistics = {seen: stored[key] for seen, key in cache.cameras.items() if key in stored}
    rewards = [REWARD] if REWARD in cache.columns else []
    for key in [*number_keys(cache.columns), *rewards]:
        values = cache.columns[key][cache.frames]
        statistics[key] = statistics_of(values.reshape(len(values), -1))
    if isinstance(policy, LatentVLAConfig) and policy.relative_actions:
        statistics[RELATIVE_ACTION] = relative_statistics(
            cache,
            offsets=range(policy.chunk_size),
            sources=relative_sources(cache.features, policy.relative_exclude_joints),
        )
    return statistics


def relative_statistics(
    cache: FrameCache, *, offsets: Sequence[int], sources: Sequence[int]
) -> dict[str, np.ndarray]:
    """Statistics of actions, (A,) each, those with a source relative to the state at their chunk's start.

    offsets: of a chunk's entries from its start; sources: state dimension of each action dimension. Entries
    behind an episode's end do not count. An absolute dimension has the statistics of the plain actions.
    """
    action, state = cache.columns[ACTION], cache.columns[OBS_STATE]
    columns = []
    for dimension, source in enumerate(sources):
        values = action[cache.frames, dimension]
        if source != ABSOLUTE:
            relative = [
                action[entries, dimension] - state[starts, source]
                for starts, entries in _chunk_entries(cache, offsets)
            ]
            values = np.concatenate(relative)
        columns.append(statistics_of(values[:, None]))
    return {name: np.concatenate([column[name] for column in columns]) for name in columns[0]}


def _chunk_entries(cache: FrameCache, offsets: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each offset, the frames at which chunks start and those of that entry, inside the episode."""
    for offset in offsets:
        entries = cache.frames + offset
        inside = (entries >= cache.first[cache.frames]) & (entries <= cache.last[cache.frames])
        yield cache.frames[inside], entries[inside]


def seen_metadata(
    metadata: LeRobotDatasetMetadata, cache: FrameCache, statistics: Statistics
) -> LeRobotDatasetMetadata:
    """The metadata as if the data set held just what is loaded, under the names it is loaded by."""
    seen = copy.copy(metadata)
    seen.info = dataclasses.replace(metadata.info, features=cache.features)
    seen.stats = statistics
    return seen
