"""Whole episodes as flat batches of looks, on the picture data set of `test_windows`."""

from pathlib import Path

import pytest

from embodied.data.cache import FrameCache
from embodied.data.looks import LookLoader
from embodied.errors import UserError
from policies.latent_vla.memory import IS_FIRST


@pytest.fixture(scope="module")
def cache(picture_root: Path) -> FrameCache:
    return FrameCache.open(picture_root)


def loader(cache: FrameCache, window: int, batch_size: int = 1, episodes: list[int] | None = None):
    return LookLoader(
        cache,
        delta_indices={"action": [0, 1], "observation.state": [0]},
        batch_size=batch_size,
        window=window,
        stride=3,
        seed=0,
        episodes=episodes,
    )


def test_looks_of_an_episode_stand_in_a_row(cache: FrameCache) -> None:
    """Two lanes of five looks; each begins with its episode's first frame, and only there."""
    batch = next(loader(cache, window=5, batch_size=2))
    assert batch["index"].shape == (10,)
    assert batch["action"].shape == (10, 2, 2)
    assert len(batch["task"]) == 10
    assert batch[IS_FIRST].tolist() == [True, False, False, False, False] * 2
    episodes = batch["episode_index"].tolist()
    assert [len(set(episodes[lane : lane + 5])) for lane in (0, 5)] == [1, 1]


def test_looks_behind_the_end_are_padding_in_every_mask(cache: FrameCache) -> None:
    """Episode 1 is a single frame: four of five looks, and the step after it, are padding."""
    batch = next(loader(cache, window=5, episodes=[1]))
    assert batch["observation.state_is_pad"].tolist() == [[False]] + [[True]] * 4
    assert batch["action_is_pad"].tolist() == [[False, True]] + [[True, True]] * 4


def test_windows_must_hold_the_longest_of_the_chosen_episodes(cache: FrameCache) -> None:
    """Twelve frames may need looks at 0, 1, 4, 7 and 10; seven at 0, 1, 4; one at 0."""
    with pytest.raises(UserError, match=r"memory_window=4: expected at least 5, .* 12 frames and every 3"):
        loader(cache, window=4)
    with pytest.raises(UserError, match="memory_window=2: expected at least 3"):
        loader(cache, window=2, episodes=[0])
    next(loader(cache, window=3, episodes=[0]))
    next(loader(cache, window=1, episodes=[1]))
