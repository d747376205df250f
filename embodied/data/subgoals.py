"""Sub-goals of a data set: the rows of style `subtask` in LeRobot's persistent language column.

Every frame of an episode repeats the same rows, each with the time from which it is in force, until the next.
N frames, G distinct sub-goals.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.language import LANGUAGE_PERSISTENT

from embodied.data.dataset import damage_reported, data_files

STYLE = "subtask"
NONE = -1
"""The index of no sub-goal."""

Stages = list[tuple[float, str]]
"""Of one episode, in order: seconds from its start, and what is pursued from then on; empty for nothing."""


def read_stages(metadata: LeRobotDatasetMetadata, starts: Sequence[int]) -> list[Stages]:
    """The sub-goals of the episodes whose first frames are `starts`, ascending.

    Raises:
        UserError: a file is damaged.
    """
    if LANGUAGE_PERSISTENT not in metadata.features:
        return [[] for _ in starts]
    stages: list[Stages] = []
    offset = 0
    for path in data_files(metadata.root):
        offset = _read_file(path, starts, offset, stages)
    return stages


def _read_file(path: Path, starts: Sequence[int], offset: int, stages: list[Stages]) -> int:
    """Append the sub-goals of the episodes that start in a file, whose first frame is `offset`; its end."""
    with damage_reported(path):
        for batch in pq.ParquetFile(path).iter_batches(columns=[LANGUAGE_PERSISTENT]):
            end = offset + len(batch)
            while len(stages) < len(starts) and starts[len(stages)] < end:
                rows = batch[LANGUAGE_PERSISTENT][int(starts[len(stages)]) - offset].as_py() or []
                found = [(row["timestamp"], row["content"] or "") for row in rows if row["style"] == STYLE]
                stages.append(sorted(found, key=lambda stage: stage[0]))
            offset = end
    return offset


def subgoals_of_frames(
    metadata: LeRobotDatasetMetadata, first: np.ndarray, timestamps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct sub-goals in alphabetical order, (G,) text, and the index of each frame's, (N,) int64.

    first: (N,) first frame of each frame's episode; timestamps: (N,) float32. The index is `NONE` where no
    sub-goal is in force. As in LeRobot's `active_at`, it is that with the latest time not after the frame's.
    """
    starts = np.unique(first)
    stages = read_stages(metadata, starts.tolist())
    texts = sorted({text for episode in stages for _, text in episode if text})
    number = {text: index for index, text in enumerate(texts)}
    indices = np.full(len(first), NONE, np.int64)
    for start, end, episode in zip(starts, [*starts[1:], len(first)], stages, strict=True):
        begins = np.array([time for time, _ in episode], np.float32)
        numbers = np.array([NONE, *(number.get(text, NONE) for _, text in episode)])
        indices[start:end] = numbers[np.searchsorted(begins, timestamps[start:end], side="right")]
    return np.array(texts, object), indices


def last_of_stages(subgoal_index: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The last frame on which each frame's sub-goal, or having none, goes on without a break: (N,) int64.

    subgoal_index: (N,), as `subgoals_of_frames` gives it; last: (N,) last frame of each frame's episode.
    """
    changes = (np.diff(subgoal_index) != 0) | (np.diff(last) != 0)
    ends = np.append(np.flatnonzero(changes), len(last) - 1)
    return ends[np.searchsorted(ends, np.arange(len(last)))]
