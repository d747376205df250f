"""Which sub-goal is in force at a frame, and in a window of frames."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.language_render import active_at
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.data.cache import FrameCache
from embodied.data.looks import LookLoader
from embodied.data.windows import WindowLoader, gather_windows
from policies.latent_vla.subgoals import SUBGOAL
from policies.latent_vla.waypoint import WAYPOINT
from tests.recordings import add_subgoals

EPISODES = [[(0.15, "push it"), (0.0, "go there")], [], [(0.1, "push it"), (0.25, "wait")]]
"""At 20 frames a second, in episodes of 7, 1 and 12 frames."""
TEXTS = ["go there", "push it", "wait"]
INDICES = [0, 0, 0, 1, 1, 1, 1, -1, -1, -1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]


@pytest.fixture(scope="module")
def root(picture_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = tmp_path_factory.mktemp("language") / "data"
    shutil.copytree(picture_root, copied, ignore=shutil.ignore_patterns(".cache"))
    return add_subgoals(copied, EPISODES)


@pytest.fixture(scope="module")
def cache(root: Path) -> FrameCache:
    return FrameCache.open(root)


def test_a_sub_goal_is_in_force_until_the_next(cache: FrameCache) -> None:
    assert cache.subgoals.tolist() == TEXTS
    assert cache.subgoal_index.tolist() == INDICES


def test_the_sub_goal_in_force_is_that_of_lerobot(cache: FrameCache, root: Path) -> None:
    theirs = LeRobotDataset("local/small", root=root)
    for frame, index in enumerate(cache.subgoal_index):
        row = theirs[frame]
        rows = row["language_persistent"]
        active = active_at(row["timestamp"].item(), persistent=rows, style="subtask")
        assert (active and active["content"]) == (None if index < 0 else TEXTS[index])


def test_windows_have_no_sub_goal_behind_the_episodes_end(cache: FrameCache) -> None:
    """Frames 2 and 5 of the first episode, the only one of the second, 2 and 5 of the third."""
    batch = gather_windows(cache, np.array([2, 5, 7, 10, 13]), {SUBGOAL: [0, 4]})
    assert batch[SUBGOAL].tolist() == [[0, 1], [1, -1], [-1, -1], [1, 2], [2, 2]]


def test_looks_behind_the_episodes_end_have_no_sub_goal(cache: FrameCache) -> None:
    """Seven looks at the first episode, and one behind it."""
    looks = LookLoader(
        cache, delta_indices={SUBGOAL: [0]}, batch_size=1, window=8, stride=1, seed=0, episodes=[0]
    )
    assert next(looks)[SUBGOAL][:, 0].tolist() == [*cache.subgoal_index[:7].tolist(), -1]


def test_a_waypoint_is_where_the_stage_ends_and_the_episode_where_there_are_none(
    cache: FrameCache, picture_root: Path
) -> None:
    """Whole stages of the first and third episode, and between them the second, which has none."""
    assert cache.stage_last.tolist() == [2] * 3 + [6] * 4 + [7] + [9] * 2 + [12] * 3 + [19] * 7
    frames = np.array([0, 4, 7, 13])
    way = gather_windows(cache, frames, {WAYPOINT: [0]})[WAYPOINT].numpy()
    state = cache.columns["observation.state"]
    np.testing.assert_array_equal(way, state[[2, 6, 7, 19]] - state[frames])
    assert np.abs(way).max(axis=1).tolist()[2] == 0 < np.abs(way[0]).max()
    silent = FrameCache.open(picture_root)
    assert np.array_equal(silent.stage_last, silent.last)
    assert WAYPOINT not in gather_windows(cache, frames, {})


def test_batches_tell_sub_goals_only_if_asked_and_known(cache: FrameCache, picture_root: Path) -> None:
    silent = FrameCache.open(picture_root)
    assert silent.subgoals.tolist() == []
    assert set(silent.subgoal_index) == {-1}
    for known, deltas in ((cache, {}), (silent, {SUBGOAL: [0, 4]})):
        batch = next(WindowLoader(known, delta_indices=deltas, batch_size=2, seed=0))
        assert SUBGOAL not in batch


def test_a_data_set_with_sub_goals_has_the_same_inputs_as_without(
    cache: FrameCache, picture_root: Path
) -> None:
    assert cache.features.keys() == FrameCache.open(picture_root).features.keys()
