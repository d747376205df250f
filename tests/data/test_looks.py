"""Whole episodes as flat batches of looks, on the picture data set of `test_windows`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from embodied.data.cache import FrameCache
from embodied.data.looks import LookLoader
from embodied.errors import UserError
from policies.latent_vla.memory import IS_DECIDED, IS_FIRST


@pytest.fixture(scope="module")
def cache(picture_root: Path) -> FrameCache:
    return FrameCache.open(picture_root)


def loader(cache: FrameCache, window: int, **settings: Any) -> LookLoader:
    return LookLoader(
        cache,
        delta_indices={"action": [0, 1], "observation.state": [0]},
        window=window,
        **{"batch_size": 1, "stride": 3, "seed": 0} | settings,
    )


def looks_of(batch: dict) -> list[list[int]]:
    """The frames of every episode in a batch, padding left out."""
    pieces: list[list[int]] = []
    for frame, is_first, is_pad in zip(
        batch["index"].tolist(), batch[IS_FIRST], batch["observation.state_is_pad"][:, 0], strict=True
    ):
        if is_first:
            pieces.append([])
        if not is_pad:
            pieces[-1].append(frame)
    return pieces


def test_a_window_holds_whole_episodes_in_a_row(cache: FrameCache) -> None:
    """Every frame a look: episodes of 7, 1 and 12 frames fill windows of 20 with one epoch each."""
    whole = [list(range(7)), [7], list(range(8, 20))]
    looks = loader(cache, window=20, stride=1)
    for _ in range(3):
        batch = next(looks)
        assert sorted(looks_of(batch)) == whole
        assert not batch["observation.state_is_pad"].any()


def test_an_episode_that_does_not_fit_begins_the_next_window(cache: FrameCache) -> None:
    """In windows of twelve none but the shortest, of a single look, stands beside another."""
    looks = loader(cache, window=12, stride=1)
    played: list[list[int]] = []
    for _ in range(9):
        batch = next(looks)
        pieces = looks_of(batch)
        assert batch[IS_FIRST][0]
        assert sorted(map(len, pieces)) in ([12], [7], [1, 7], [1])
        played += pieces
    epochs = [sorted(piece[0] for piece in played[start : start + 3]) for start in (0, 3, 6)]
    assert epochs == [[0, 7, 8]] * 3


def test_rows_of_a_batch_are_windows(cache: FrameCache) -> None:
    """Two windows of five looks, flat."""
    batch = next(loader(cache, window=5, batch_size=2))
    assert batch["index"].shape == (10,)
    assert batch["action"].shape == (10, 2, 2)
    assert len(batch["task"]) == 10
    assert batch[IS_FIRST][[0, 5]].all()


def test_looks_begin_at_the_first_frame_and_see_all_others(cache: FrameCache) -> None:
    """Episode 0 has seven frames: at each visit 0, then every third from one of 1, 2 and 3 on."""
    looks = loader(cache, window=3, episodes=[0])
    visits = [tuple(looks_of(next(looks))[0]) for _ in range(20)]
    assert sorted(set(visits)) == [(0, 1, 4), (0, 2, 5), (0, 3, 6)]


def test_a_cursor_continues_the_episodes(cache: FrameCache) -> None:
    looks = loader(cache, window=5, batch_size=2, seed=5)
    for _ in range(9):
        next(looks)
    resumed = loader(cache, window=5, batch_size=2, **looks.state())
    for _ in range(6):
        assert torch.equal(next(resumed)["index"], next(looks)["index"])


def test_looks_behind_the_end_are_padding_in_every_mask(cache: FrameCache) -> None:
    """Of episode 0 one visit has three looks, so the last two of five are padding; its action goes on."""
    batch = next(loader(cache, window=5, episodes=[0]))
    assert batch[IS_FIRST].tolist() == [True, False, False, False, False]
    assert batch["observation.state_is_pad"].tolist() == [[False]] * 3 + [[True]] * 2
    assert batch["action_is_pad"][3:].tolist() == [[True, True]] * 2
    assert not batch["action_is_pad"][:3, 0].any()


def test_windows_must_hold_the_longest_of_the_chosen_episodes(cache: FrameCache) -> None:
    """Twelve frames may need looks at 0, 1, 4, 7 and 10; seven at 0, 1, 4; one at 0."""
    with pytest.raises(UserError, match=r"memory_window=4: expected at least 5, .* 12 frames and every 3"):
        loader(cache, window=4)
    with pytest.raises(UserError, match="memory_window=2: expected at least 3"):
        loader(cache, window=2, episodes=[0])
    next(loader(cache, window=3, episodes=[0]))
    next(loader(cache, window=1, episodes=[1]))


def test_as_many_looks_of_each_window_are_decided_and_in_time_all(cache: FrameCache) -> None:
    """Padding is not among them; the draw is a function of seed and place in the stream."""
    looks = loader(cache, window=5, batch_size=2, decisions=2)
    seen: set[int] = set()
    for _ in range(60):
        state = looks.state()
        batch = next(looks)
        assert torch.equal(
            next(loader(cache, window=5, batch_size=2, decisions=2, **state))[IS_DECIDED], batch[IS_DECIDED]
        )
        decided, real = batch[IS_DECIDED].view(2, 5), ~batch["observation.state_is_pad"].view(2, 5)
        assert decided.sum(1).tolist() == [2, 2]
        assert (decided & real).sum(1).tolist() == real.sum(1).clamp(max=2).tolist()
        seen |= set(batch["index"][(decided & real).flatten()].tolist())
    assert seen == set(range(20))
    assert IS_DECIDED not in next(loader(cache, window=5))


def test_an_emphasis_needs_decisions_to_draw(cache: FrameCache) -> None:
    with pytest.raises(UserError, match=r"emphasis=0\.5: expected --policy\.memory_decisions above 0"):
        loader(cache, window=5, emphasis=0.5)
