"""Emphasis: frames that the pictures decide come more often."""

import dataclasses

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.data.cache import FrameCache
from embodied.data.emphasis import unexplained
from embodied.data.looks import LookLoader
from embodied.data.windows import WindowLoader
from embodied.errors import UserError
from policies.latent_vla.memory import IS_DECIDED

LENGTH, EPISODES, AHEAD = 20, 80, 3
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    "observation.images.top": {
        "dtype": "image",
        "shape": (8, 8, 3),
        "names": ["height", "width", "channels"],
    },
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    """Actions follow from the state, but in the first five frames, where they are drawn."""
    root = tmp_path_factory.mktemp("emphasis") / "data"
    data = LeRobotDataset.create("local/drawn", fps=10, root=root, features=FEATURES, use_videos=False)
    rng = np.random.default_rng(0)
    for episode in range(EPISODES):
        for step in range(LENGTH):
            state = rng.normal(size=2).astype(np.float32)
            action = rng.normal(size=2).astype(np.float32) if step < 5 else np.array([1.0, -1.0], np.float32)
            task = ["left", "right"][episode % 2]
            picture = np.zeros((8, 8, 3), np.uint8)
            data.add_frame(
                {
                    "observation.state": state,
                    "action": action,
                    "observation.images.top": picture,
                    "task": task,
                }
            )
        data.save_episode()
    data.finalize()
    return FrameCache.open(root)


def test_weights_are_high_where_the_state_does_not_tell(cache: FrameCache) -> None:
    weights = unexplained(cache, np.arange(cache.num_frames), ahead=0).reshape(EPISODES, LENGTH)
    assert weights.mean() == pytest.approx(1)
    assert weights[:, :5].mean() > 4 * weights[:, 5:].mean()
    ahead = unexplained(cache, np.arange(cache.num_frames), AHEAD).reshape(EPISODES, LENGTH)
    assert ahead[:, :2].mean() > 4 * ahead[:, 2:].mean()


def test_a_single_episode_has_weights_as_well(cache: FrameCache) -> None:
    weights = unexplained(cache, np.arange(LENGTH), ahead=0)
    assert np.isfinite(weights).all()


def test_the_share_of_the_samples_is_drawn_by_it(cache: FrameCache) -> None:
    shares = {}
    for emphasis in (0.0, 0.5, 1.0):
        loader = WindowLoader(
            cache, delta_indices={"action": [0]}, batch_size=8000, seed=0, emphasis=emphasis
        )
        shares[emphasis] = (next(loader)["frame_index"].numpy() < 5).mean()
    assert shares[0.0] == pytest.approx(0.25, abs=0.02)
    assert shares[1.0] > 0.6
    assert shares[0.5] == pytest.approx((shares[0.0] + shares[1.0]) / 2, abs=0.03)


def test_data_that_leave_nothing_open_are_drawn_from_evenly(cache: FrameCache) -> None:
    still = {**cache.columns, "action": np.ones_like(cache.columns["action"])}
    weights = unexplained(dataclasses.replace(cache, columns=still), np.arange(cache.num_frames), ahead=0)
    np.testing.assert_allclose(weights, 1)


def test_a_data_set_without_states_is_refused(cache: FrameCache) -> None:
    columns = {key: value for key, value in cache.columns.items() if key != "observation.state"}
    with pytest.raises(UserError, match=r"--dataset\.root=.*: has no observation\.state: expected one"):
        unexplained(dataclasses.replace(cache, columns=columns), np.arange(LENGTH), ahead=0)


def test_it_goes_with_task_weights(cache: FrameCache) -> None:
    loader = WindowLoader(
        cache,
        delta_indices={"action": [0]},
        batch_size=400,
        seed=0,
        emphasis=1.0,
        task_weights={"left": 0.0},
    )
    assert set(next(loader)["task"]) == {"right"}


def test_the_order_is_a_function_of_the_cursor(cache: FrameCache) -> None:
    settings = {"delta_indices": {"action": [0]}, "seed": 3, "emphasis": 0.7}
    whole = next(WindowLoader(cache, batch_size=40, **settings))["index"].tolist()
    first = WindowLoader(cache, batch_size=13, **settings)
    seen = next(first)["index"].tolist()
    rest = WindowLoader(cache, batch_size=27, **settings | first.state())
    assert seen + next(rest)["index"].tolist() == whole


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_beyond_the_whole_is_refused(cache: FrameCache, share: float) -> None:
    with pytest.raises(UserError, match=r"--dataset\.emphasis=.*: expected 0 to 1"):
        WindowLoader(cache, delta_indices={}, batch_size=1, seed=0, emphasis=share)


def test_decisions_of_a_policy_with_memory_are_drawn_alike(cache: FrameCache) -> None:
    """Every frame a look: five of twenty are drawn, of which a quarter can be unforeseen by chance."""
    shares = []
    for emphasis in (0.0, 0.9):
        loader = LookLoader(
            cache,
            delta_indices={"action": [0]},
            batch_size=40,
            window=LENGTH,
            stride=1,
            decisions=5,
            emphasis=emphasis,
            seed=0,
        )
        batch = next(loader)
        decided = batch["frame_index"][batch[IS_DECIDED]]
        shares.append((decided < 5).float().mean().item())
    assert shares[0] < 0.35
    assert shares[1] > 0.6
