"""Whether a policy looks: forecasters that read the picture, the state, or nothing, and real checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.cli import main
from embodied.data.cache import FrameCache
from embodied.data.windows import Batch
from embodied.errors import UserError
from embodied.evaluation.diagnostics.looking import foresight
from tests.evaluation.diagnostics.conftest import CAMERA
from tests.fake_envs import SIZE

EPISODES, LENGTH, STRIDE = 40, 18, 4
ALL = np.arange(EPISODES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    """The picture's brightness alone tells the first action; the second follows from the state.

    Of the fake environment's cameras and sizes, so that its policies fit.
    """
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    features = {
        CAMERA: picture,
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["seen", "felt"]},
    }
    root = tmp_path_factory.mktemp("looking") / "data"
    data = LeRobotDataset.create("local/bright", fps=10, root=root, features=features, use_videos=False)
    rng = np.random.default_rng(0)
    for episode in range(EPISODES):
        bright = rng.integers(256)
        for frame in range(LENGTH + episode % 3):
            state = np.array([np.sin(frame / 5), np.cos(frame / 5)], np.float32)
            data.add_frame(
                {
                    CAMERA: np.full((SIZE, SIZE, 3), bright, np.uint8),
                    "observation.state": state,
                    "action": np.array([bright / 255, -_later(state)[0]], np.float32),
                    "task": ["left", "right"][episode % 2],
                }
            )
        data.save_episode()
    data.finalize()
    return FrameCache.open(root)


def _later(state: np.ndarray) -> np.ndarray:
    """Sine and cosine (..., 2), turned on by a fifth."""
    turn = np.exp(0.2j)
    turned = (state[..., 1] + 1j * state[..., 0]) * turn
    return np.stack([turned.imag, turned.real], axis=-1)


class Reader:
    """Knows what the state tells; of the picture, as much as is said."""

    stride = STRIDE

    def __init__(self, sees: float) -> None:
        self.sees = sees
        self.resets = 0
        self.looks: list[int] = []

    def reset(self) -> None:
        self.resets += 1

    def __call__(self, batch: Batch, look: int) -> np.ndarray:
        self.looks.append(look)
        assert set(batch) == {CAMERA, "observation.state", "task"}
        state = batch["observation.state"].numpy()
        for _ in range(STRIDE):  # the action judged is three frames ahead, and itself leads one further
            state = _later(state)
        bright = batch[CAMERA].float().mean((1, 2, 3)).numpy() / 255
        return np.stack([0.5 + self.sees * (bright - 0.5), -state[:, 0]], axis=1)


def test_who_reads_the_picture_foresees_all_and_is_misled_by_anothers(cache: FrameCache) -> None:
    found = foresight(Reader(sees=1.0), cache, ALL)
    assert found["share"] > 0.95  # a little is lost where an episode ends before the judged action
    assert found["interval"][0] > 0.95
    assert found["other_pictures"]["share"] < -0.3
    assert found["dimensions"]["seen"] > 0.99
    assert next(iter(found["dimensions"])) == "seen"
    assert set(found["instructions"]) == {"left", "right"}


def test_who_looks_at_nothing_foresees_nothing_and_anothers_pictures_cost_nothing(cache: FrameCache) -> None:
    found = foresight(Reader(sees=0.0), cache, ALL)
    assert abs(found["share"]) < 0.15
    assert found["other_pictures"]["share"] == found["share"]


def test_half_of_what_is_seen_is_three_quarters_of_the_square(cache: FrameCache) -> None:
    found = foresight(Reader(sees=0.5), cache, ALL)
    assert found["share"] == pytest.approx(0.75, abs=0.05)
    low, high = found["interval"]
    assert low < found["share"] < high


def test_episodes_are_gone_along_look_by_look_from_their_start(cache: FrameCache) -> None:
    """18, 19 and 20 frames are five looks each, at every fourth; a policy's memory starts afresh."""
    reader = Reader(sees=1.0)
    found = foresight(reader, cache, np.arange(6))
    assert (found["looks"], found["episodes"], found["ahead"]) == (30, 6, 3)
    assert reader.resets == 2
    assert reader.looks == [0, 1, 2, 3, 4] * 2


def test_one_episode_is_not_enough(cache: FrameCache) -> None:
    with pytest.raises(UserError, match="1 episode, expected at least 2"):
        foresight(Reader(sees=1.0), cache, np.array([3]))


@pytest.mark.parametrize("kind", ["act", "latent_vla"])
def test_a_checkpoint_is_asked_from_the_command_line(
    kind: str,
    save_checkpoint: Callable,
    cache: FrameCache,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An untrained one foresees nothing; the same command gives the same numbers."""
    folder, results = save_checkpoint(kind), [tmp_path / "first.json", tmp_path / "second.json"]
    for path in results:
        line = ["evaluate", f"--policy.path={folder}", f"--dataset.root={cache.root}", f"--json={path}"]
        assert main([*line, "--device=cpu"]) == 0
    assert "with another episode's pictures" in capsys.readouterr().out
    first, second = (json.loads(path.read_text()) for path in results)
    assert first["share"] == second["share"] < 0.5
    assert first["episodes"] == EPISODES


def test_policies_with_history_or_memory_are_asked_as_well(
    save_checkpoint: Callable, cache: FrameCache
) -> None:
    for overrides in ({"n_obs_steps": 2}, {"memory_tokens": 2, "memory_window": 4}):
        folder = save_checkpoint("latent_vla", **overrides)
        line = ["evaluate", f"--policy.path={folder}", f"--dataset.root={cache.root}", "--device=cpu"]
        assert main([*line, "--episodes=5"]) == 0


def test_data_that_do_not_fit_or_tell_nothing_are_refused(
    save_checkpoint: Callable,
    points: Path,
    cache: FrameCache,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fake expert always acts alike; another camera; one episode; a policy that plans."""
    line = ["evaluate", f"--policy.path={save_checkpoint('act')}", "--device=cpu"]
    mistakes = {
        f"--dataset.root={points}": "its actions follow from state and instruction, expected others",
        f"--dataset.root={cache.root} --dataset.cameras=corner:side": f"feature {CAMERA}: expected one of",
        f"--dataset.root={cache.root} --episodes=1": "--episodes=1: expected at least 2",
    }
    for flags, message in mistakes.items():
        assert main([*line, *flags.split()]) == 2
        assert message in capsys.readouterr().err
    planner = ["--policy.type=latent_mpc", f"--policy.world_model_path={points}"]
    assert main(["evaluate", *planner, f"--dataset.root={cache.root}"]) == 2
    assert "expected --policy.path as well" in capsys.readouterr().err
