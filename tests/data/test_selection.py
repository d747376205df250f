"""Episodes by success: the episode table's mark first, then any frame's, and a refusal without either."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embodied.data.cache import FrameCache
from embodied.data.selection import steps_to_success
from embodied.errors import UserError
from tests.recordings import episode_file

Recording = Callable[[str], Path]


@pytest.fixture
def root(recording: Recording, tmp_path: Path) -> Path:
    """Four Meta-World episodes, of which `next.success` marks the first three; a copy to change."""
    return Path(shutil.copytree(recording("metaworld"), tmp_path / "set"))


def mark(root: Path, marks: list[bool]) -> None:
    table = pq.read_table(episode_file(root))
    pq.write_table(table.append_column("success", pa.array(marks)), episode_file(root))


def test_a_frame_marked_a_success_makes_the_episode_one(root: Path) -> None:
    assert FrameCache.open(root, success_only=True).episodes.tolist() == [0, 1, 2]


def test_the_mark_of_the_episode_table_counts_more(root: Path) -> None:
    mark(root, [False, True, False, True])
    cache = FrameCache.open(root, success_only=True)
    assert cache.episodes.tolist() == [1, 3]
    assert cache.frames.tolist() == [*range(60, 130), *range(194, 274)]


def test_steps_count_down_to_the_first_success_and_never_end_in_a_failure(root: Path) -> None:
    cache = FrameCache.open(root)
    marked = np.flatnonzero(cache.columns["next.success"])
    first = marked[marked <= 59][0]
    assert cache.steps_to_success[: first + 1].tolist() == list(range(first + 1, 0, -1))
    assert (cache.steps_to_success[first + 1 : 60] <= 0).all()
    assert np.isinf(cache.steps_to_success[cache.columns["episode_index"] == 3]).all()


def test_where_only_the_table_marks_success_it_comes_with_the_last_frame() -> None:
    episodes = SimpleNamespace(to_list=lambda: [{"success": True}, {"success": False}])
    metadata = SimpleNamespace(episodes=episodes)
    columns = {"episode_index": np.array([0, 0, 0, 1, 1])}
    steps = steps_to_success(cast(Any, metadata), columns)
    assert steps.tolist() == [3, 2, 1, np.inf, np.inf]


def test_steps_are_unknown_where_nothing_marks_success(recording: Recording) -> None:
    assert np.isnan(FrameCache.open(recording("aloha")).steps_to_success).all()


def test_successes_are_taken_among_the_chosen_episodes(root: Path) -> None:
    assert FrameCache.open(root, success_only=True, episodes=[3, 1]).episodes.tolist() == [1]


def test_no_success_among_the_chosen_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"success_only=true: no episode of --dataset\.episodes=\[3\]"):
        FrameCache.open(root, success_only=True, episodes=[3])


def test_a_data_set_without_marks_is_refused(recording: Recording) -> None:
    with pytest.raises(UserError, match=r"success_only=true: .*marks no success, expected"):
        FrameCache.open(recording("aloha"), success_only=True)
