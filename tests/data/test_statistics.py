"""Statistics are those of the frames that are trained on; relative ones those of whole chunks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from embodied.data.cache import FrameCache
from embodied.data.dataset import open_metadata
from embodied.data.statistics import (
    relative_statistics,
    seen_metadata,
    statistics_of,
    training_statistics,
)
from policies.latent_vla import LatentVLAConfig


def test_the_numbers_of_a_hundred_and_one_values() -> None:
    found = statistics_of(np.arange(101, dtype=np.float32)[::-1, None])
    assert {name: found[name].item() for name in ("min", "max", "mean", "count")} == {
        "min": 0,
        "max": 100,
        "mean": 50,
        "count": 101,
    }
    assert found["std"].item() == pytest.approx(np.sqrt((101**2 - 1) / 12))
    assert [found[name].item() for name in ("q01", "q10", "q50", "q90", "q99")] == [1, 10, 50, 90, 99]


def test_only_the_chosen_episodes_count(picture_root: Path) -> None:
    """The action counts the frames: episode 0 has frames 0 to 6."""
    cache = FrameCache.open(picture_root, episodes=[0])
    found = training_statistics(LatentVLAConfig(device="cpu"), open_metadata(picture_root), cache)
    assert found["action"]["max"].tolist() == [6, 0]
    assert found["action"]["mean"].tolist() == [3, -3]
    assert found["action"]["q99"].tolist() == pytest.approx([5.94, -0.06])


def test_chunk_entries_behind_the_end_of_an_episode_do_not_count(picture_root: Path) -> None:
    """Action 0 at frame f is f, the state f / 2: frames 0 to 6 and entries 0 and 2, as far as they exist."""
    cache = FrameCache.open(picture_root, episodes=[0])
    state = np.repeat(np.arange(20, dtype=np.float32)[:, None] / 2, 3, axis=1)
    cache = dataclasses.replace(cache, columns={**cache.columns, "observation.state": state})
    found = relative_statistics(cache, offsets=[0, 2], sources=[1, -1])
    relative = [f - f / 2 for f in range(7)] + [f + 2 - f / 2 for f in range(5)]
    assert found["count"].tolist() == [12, 7]
    assert found["mean"].tolist() == pytest.approx([np.mean(relative), -3])
    assert found["max"].tolist() == [4, 0]


def test_renamed_pictures_keep_their_statistics(picture_root: Path) -> None:
    metadata = open_metadata(picture_root)
    cache = FrameCache.open(picture_root, cameras="corner:wrist")
    statistics = training_statistics(LatentVLAConfig(device="cpu"), metadata, cache)
    seen = seen_metadata(metadata, cache, statistics)
    assert metadata.stats is not None
    assert seen.camera_keys == ["observation.images.wrist"]
    assert statistics["observation.images.wrist"] is metadata.stats["observation.images.corner"]
    assert metadata.camera_keys == ["observation.images.corner", "observation.images.gripper"]
