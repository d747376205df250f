"""Batches are LeRobot's own, in an order that is a function of seed and cursor."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.utils.collate import lerobot_collate_fn

from embodied.data.cache import FrameCache
from embodied.data.windows import (
    WindowLoader,
    delta_indices_of,
    gather_windows,
    scale_images,
)
from embodied.errors import UserError
from policies.latent_vla.trajectories import STEPS_TO_SUCCESS

WINDOWS = {
    "action": [-2, 0, 1, 5],
    "observation.state": [-3, 0],
    "observation.images.corner": [-1, 0],
    "next.reward": [0],
}


@pytest.fixture(scope="module")
def cache(picture_root: Path) -> FrameCache:
    return FrameCache.open(picture_root)


def assert_equal_batches(ours: dict[str, Any], expected: dict[str, Any]) -> None:
    assert ours.keys() - {STEPS_TO_SUCCESS} == expected.keys()
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert ours[key].dtype == value.dtype, key
            assert torch.equal(ours[key], value), key
        else:
            assert ours[key] == value, key


@pytest.mark.parametrize("root_name", ["picture_root", "film_root"])
@pytest.mark.parametrize("windows", [{}, WINDOWS], ids=["single frames", "windows"])
def test_batches_are_those_of_lerobot(
    root_name: str, windows: dict[str, list[int]], request: pytest.FixtureRequest
) -> None:
    """Every frame, so every border of an episode: keys, shapes, types and values."""
    root = request.getfixturevalue(root_name)
    cache = FrameCache.open(root)
    seconds = {key: [delta / cache.fps for delta in deltas] for key, deltas in windows.items()}
    theirs = LeRobotDataset("local/small", root=root, delta_timestamps=seconds or None, video_backend="pyav")
    frames = np.arange(cache.num_frames)
    ours = scale_images(gather_windows(cache, frames, windows))
    assert_equal_batches(ours, lerobot_collate_fn([theirs[i] for i in range(len(theirs))]) or {})


def test_a_window_stops_at_the_end_of_its_episode(cache: FrameCache) -> None:
    """Frame 6 is the last of episode 0; its actions count the frames."""
    batch = gather_windows(cache, np.array([5, 6]), {"action": [0, 1, 2]})
    assert batch["action"][:, :, 0].tolist() == [[5, 6, 6], [6, 6, 6]]
    assert batch["action_is_pad"].tolist() == [[False, False, True], [False, True, True]]


def test_pictures_are_channels_last_in_memory(cache: FrameCache) -> None:
    batch = next(WindowLoader(cache, delta_indices={}, batch_size=4, seed=0))
    pictures = batch["observation.images.corner"]
    assert pictures.shape == (4, 3, 16, 24)
    assert pictures.dtype == torch.uint8
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert scale_images(batch)["observation.images.corner"].is_contiguous(memory_format=torch.channels_last)


def test_scaling_maps_255_to_1_and_leaves_the_rest() -> None:
    batch = {
        "observation.images.corner": torch.tensor([[[[255]], [[0]], [[51]]]], dtype=torch.uint8),
        "mask": torch.tensor([255], dtype=torch.uint8),
    }
    scaled = scale_images(batch)
    assert scaled["observation.images.corner"].flatten().tolist() == pytest.approx([1.0, 0.0, 0.2])
    assert scaled["mask"] is batch["mask"]
    assert batch["observation.images.corner"].dtype == torch.uint8


def test_every_frame_comes_once_per_epoch(cache: FrameCache) -> None:
    loader = WindowLoader(cache, delta_indices={}, batch_size=5, seed=0)
    epochs = [torch.cat([next(loader)["index"] for _ in range(4)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]


def test_a_batch_runs_on_into_the_next_epoch(cache: FrameCache) -> None:
    loader = WindowLoader(cache, delta_indices={}, batch_size=50, seed=0)
    assert np.bincount(next(loader)["index"].numpy()).sum() == 50
    assert loader.state() == {"seed": 0, "cursor": 50}


def test_a_cursor_continues_the_stream_whatever_the_batch_size(cache: FrameCache) -> None:
    whole = WindowLoader(cache, delta_indices={}, batch_size=60, seed=3)
    expected = next(whole)["index"].tolist()
    first = WindowLoader(cache, delta_indices={}, batch_size=13, seed=3)
    seen = [i for _ in range(3) for i in next(first)["index"].tolist()]
    second = WindowLoader(cache, delta_indices={}, batch_size=21, **first.state())
    assert seen + next(second)["index"].tolist() == expected


def test_another_seed_gives_another_order(cache: FrameCache) -> None:
    orders = [next(WindowLoader(cache, delta_indices={}, batch_size=20, seed=s))["index"] for s in (0, 1)]
    assert not torch.equal(*orders)


def test_task_weights_are_the_shares_of_the_samples(cache: FrameCache) -> None:
    """One frame shows the drawer, nineteen the puck; weights 3 to 1 make the drawer three quarters."""
    weights = {"open the drawer": 3.0}
    loader = WindowLoader(cache, delta_indices={}, batch_size=4000, seed=0, task_weights=weights)
    share = next(loader)["task"].count("open the drawer") / 4000
    assert share == pytest.approx(0.75, abs=0.03)


def test_a_task_of_weight_zero_never_comes(cache: FrameCache) -> None:
    weights = {"open the drawer": 0.0}
    loader = WindowLoader(cache, delta_indices={}, batch_size=400, seed=0, task_weights=weights)
    assert set(next(loader)["task"]) == {"push the puck"}


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ({"fly": 1.0}, "'fly'"),
        ({"open the drawer": -1.0}, "-1.0"),
        ({"open the drawer": 0.0, "push the puck": 0.0}, "above 0"),
    ],
)
def test_unusable_weights_are_refused(cache: FrameCache, weights: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        WindowLoader(cache, delta_indices={}, batch_size=1, seed=0, task_weights=weights)


def test_only_the_chosen_episodes_come(cache: FrameCache) -> None:
    loader = WindowLoader(cache, delta_indices={}, batch_size=16, seed=0, episodes=[0, 1])
    assert loader.num_frames == 8
    assert sorted(set(next(loader)["episode_index"].tolist())) == [0, 1]


@pytest.mark.parametrize("episodes", [[3], [-1], []])
def test_episodes_that_do_not_exist_are_refused(cache: FrameCache, episodes: list[int]) -> None:
    with pytest.raises(UserError, match="expected some of 0 to 2"):
        WindowLoader(cache, delta_indices={}, batch_size=1, seed=0, episodes=episodes)


def test_windows_of_unknown_columns_are_refused(cache: FrameCache) -> None:
    with pytest.raises(ValueError, match=r"observation\.depth"):
        WindowLoader(cache, delta_indices={"observation.depth": [0]}, batch_size=1, seed=0)


@pytest.mark.parametrize(
    "config", [ACTConfig(chunk_size=5, n_action_steps=5), DiffusionConfig(horizon=8, n_obs_steps=2)]
)
def test_offsets_are_those_that_lerobot_resolves(
    picture_root: Path, config: ACTConfig | DiffusionConfig
) -> None:
    meta = LeRobotDataset("local/small", root=picture_root, video_backend="pyav").meta
    seconds = resolve_delta_timestamps(config, meta) or {}
    expected = {key: [round(time * meta.fps) for time in times] for key, times in seconds.items()}
    assert delta_indices_of(config, meta.features) == expected
