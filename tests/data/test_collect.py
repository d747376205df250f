"""`collect` on the real simulator: same seed, same data; successes, failures and folders as promised."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.configs import AlohaEnv

from embodied.config import CollectConfig, DatasetConfig
from embodied.data.behaviours import FRAMES_AFTER_SUCCESS, MAX_ATTEMPTS
from embodied.data.cache import FrameCache
from embodied.data.collect import collect, plan_jobs
from embodied.data.dataset import episode_rows, fingerprint, open_metadata
from embodied.errors import UserError
from embodied.lerobot_plugin import EmbodiedMetaworldEnv


def configure(root: Path, *, length: int = 100, task: str = "reach", **changes: Any) -> CollectConfig:
    env = EmbodiedMetaworldEnv(task=task, width=32, height=24, episode_length=length)
    settings: dict[str, Any] = {"episodes": 2, "workers": 1}
    return CollectConfig(env=env, dataset=DatasetConfig(root=root), **(settings | changes))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two expert episodes of reach, one noisy and one random."""
    root = tmp_path_factory.mktemp("collected") / "reach"
    return root, collect(configure(root, noisy_episodes=1, random_episodes=1))


@pytest.mark.render
def test_the_result_describes_what_was_written(collected: tuple[Path, dict[str, Any]]) -> None:
    root, result = collected
    dataset = LeRobotDataset("local/dataset", root=root, video_backend="pyav")
    assert result["frames"] == len(dataset)
    assert result["episodes"] == dataset.num_episodes == 4
    assert result["fingerprint"] == fingerprint(root)
    reach = result["tasks"]["reach"]
    assert dataset[0]["task"] == reach["instruction"]
    assert reach["expert"]["successes"] == 2
    assert reach["random"]["episodes"] == 1
    assert [row["behaviour"] for row in episode_rows(dataset.meta)] == ["expert", "expert", "noisy", "random"]


@pytest.mark.render
def test_the_number_of_workers_changes_no_byte(
    collected: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, result = collected
    again = collect(configure(tmp_path / "two", noisy_episodes=1, random_episodes=1, workers=2))
    assert again["fingerprint"] == result["fingerprint"]


@pytest.mark.render
def test_another_seed_gives_other_episodes(collected: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    root, _ = collected
    collect(configure(tmp_path / "other", episodes=1, seed=1))
    first, other = (episode_rows(open_metadata(path))[0]["seed"] for path in (root, tmp_path / "other"))
    assert first != other


@pytest.mark.render
def test_demonstrations_end_a_few_frames_after_success(collected: tuple[Path, dict[str, Any]]) -> None:
    cache = FrameCache.open(collected[0])
    success, done = cache.columns["next.success"], cache.columns["next.done"]
    for episode in (0, 1):
        flags = success[cache.columns["episode_index"] == episode]
        assert len(flags) - 1 - flags.argmax() == FRAMES_AFTER_SUCCESS
    assert np.flatnonzero(done).tolist() == np.unique(cache.last).tolist()


@pytest.mark.render
def test_every_frame_of_an_expert_has_a_sub_goal(collected: tuple[Path, dict[str, Any]]) -> None:
    dataset = LeRobotDataset("local/dataset", root=collected[0], video_backend="pyav")
    rows = dataset[0]["language_persistent"]
    assert rows[0]["timestamp"] == 0.0
    assert {row["style"] for row in rows} == {"subtask"}
    assert all(row["content"] for row in rows)


@pytest.mark.render
def test_an_expert_without_a_chance_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--env.task=reach: the expert failed {MAX_ATTEMPTS} times"):
        collect(configure(tmp_path / "hopeless", length=2))
    assert not list(tmp_path.iterdir())


@pytest.mark.render
def test_failures_are_kept_on_request_and_marked(tmp_path: Path) -> None:
    result = collect(configure(tmp_path / "failed", length=2, keep_failures=True))
    assert result["tasks"]["reach"]["expert"] == {"episodes": 2, "successes": 0, "frames": 4, "attempts": 2}
    rows = episode_rows(open_metadata(tmp_path / "failed"))
    assert [row["success"] for row in rows] == [False, False]


def test_jobs_come_by_task_then_behaviour(tmp_path: Path) -> None:
    config = configure(tmp_path, task="reach,push", episodes=2, random_episodes=1, wandering_episodes=1)
    jobs = plan_jobs(config, ("reach", "push"))
    assert [(job.task, job.behaviour, job.index, job.wanted) for job in jobs] == [
        (task, *rest)
        for task in ("reach", "push")
        for rest in (
            ("expert", 0, "success"),
            ("expert", 1, "success"),
            ("random", 0, "any"),
            ("wandering", 0, "failure"),
        )
    ]


def test_a_folder_in_use_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=r"taken: expected a folder that is new or empty"):
        collect(configure(tmp_path / "taken"))
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "note.txt"]


def test_an_environment_without_experts_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--env\.type=aloha: expected .* embodied_metaworld, embodied_a"):
        collect(CollectConfig(env=AlohaEnv(), dataset=DatasetConfig(root=tmp_path / "new")))


def test_no_workers_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--workers=0: expected at least 1"):
        collect(configure(tmp_path / "new", workers=0))
