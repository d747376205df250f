"""What is written is what LeRobot would have written, and the sub-goals and marks of each episode."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.language_render import active_at
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from PIL import Image

from embodied.data import writer as writer_module
from embodied.data.behaviours import EpisodeJob, RecordedEpisode, count_pixels
from embodied.data.dataset import fingerprint
from embodied.data.writer import EpisodeWriter, make_features, pixel_statistics
from tests.fake_envs import PointEnv

SIZE = 32
ENV = PointEnv(cameras=("a", "b"))


def record(
    length: int, behaviour: str = "expert", task: str = "reach", success: bool = True
) -> RecordedEpisode:
    """An episode of random pictures and numbers, with a new sub-goal every third frame."""
    draw = np.random.default_rng(length)
    pictures = {camera: draw.integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8) for camera in "ab"}
    job = EpisodeJob(task=task, behaviour=behaviour, index=0, seed=0, noise=0.0, wanted="any")
    return RecordedEpisode(
        job=job,
        env_seed=2**31 + length,
        instruction=f"do {task}",
        pictures={camera: [encode(picture) for picture in stack] for camera, stack in pictures.items()},
        pixel_counts={camera: count_pixels(stack) for camera, stack in pictures.items()},
        state=draw.normal(size=(length, 2)).astype(np.float32),
        action=draw.normal(size=(length, 2)).astype(np.float32),
        reward=draw.normal(size=length).astype(np.float32),
        success=np.array([success and i == length - 1 for i in range(length)]),
        stages=[(frame, f"stage {frame}") for frame in range(0, length, 3)],
    )


def encode(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def write(root: Path, episodes: list[RecordedEpisode], *, video: bool = False) -> LeRobotDataset:
    root.mkdir(exist_ok=True)
    writer = EpisodeWriter(root, ENV, video=video)
    for episode in episodes:
        writer.add(episode)
    return LeRobotDataset("local/ours", root=root, video_backend="pyav")


def write_with_lerobot(root: Path, episodes: list[RecordedEpisode]) -> LeRobotDataset:
    features = make_features(ENV, video=False)
    del features["language_persistent"]
    dataset = LeRobotDataset.create(
        "local/theirs", ENV.fps, features, root=root, use_videos=False, video_backend="pyav"
    )
    for episode in episodes:
        for i in range(episode.num_frames):
            pictures = {
                f"observation.images.{camera}": np.array(Image.open(io.BytesIO(files[i])))
                for camera, files in episode.pictures.items()
            }
            dataset.add_frame(
                {
                    **pictures,
                    "observation.state": episode.state[i],
                    "action": episode.action[i],
                    "next.reward": episode.reward[i : i + 1],
                    "next.success": episode.success[i : i + 1],
                    "next.done": np.array([i == episode.num_frames - 1]),
                    "behaviour": episode.job.behaviour,
                    "task": episode.instruction,
                }
            )
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset("local/theirs", root=root, video_backend="pyav")


@pytest.fixture(scope="module")
def episodes() -> list[RecordedEpisode]:
    return [record(7), record(5, "noisy", "push", success=False), record(4, "random")]


@pytest.fixture(scope="module")
def dataset(episodes: list[RecordedEpisode], tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    return write(tmp_path_factory.mktemp("written") / "ours", episodes)


def test_rows_and_statistics_are_those_that_lerobot_writes(
    dataset: LeRobotDataset, episodes: list[RecordedEpisode], tmp_path: Path
) -> None:
    """Pictures, numbers, texts, indices; quantiles of pictures are exact here, interpolated there."""
    theirs = write_with_lerobot(tmp_path / "theirs", episodes)
    assert len(dataset) == len(theirs) == 16
    for mine, other in zip((dataset[i] for i in range(16)), (theirs[i] for i in range(16)), strict=True):
        assert mine.keys() - other.keys() == {"language_persistent"}
        for key, value in other.items():
            same = torch.equal(mine[key], value) if isinstance(value, torch.Tensor) else mine[key] == value
            assert same, key
    mine, other = dataset.meta.stats, theirs.meta.stats
    assert mine is not None
    assert other is not None
    assert mine.keys() == other.keys()
    for key, statistics in other.items():
        assert mine[key].keys() == statistics.keys()
        for name, value in statistics.items():
            assert mine[key][name].shape == value.shape
            np.testing.assert_allclose(mine[key][name], value, atol=1 / 255, err_msg=f"{key} {name}")


def test_the_sub_goal_of_every_frame_is_found_by_lerobot(
    dataset: LeRobotDataset, episodes: list[RecordedEpisode]
) -> None:
    for episode, start in zip(episodes, (0, 7, 12), strict=True):
        for frame in range(episode.num_frames):
            row = dataset[start + frame]
            active = active_at(
                row["timestamp"].item(),
                persistent=row["language_persistent"],
                style="subtask",
                role="assistant",
            )
            assert active is not None
            assert active["content"] == f"stage {frame // 3 * 3}"


def test_an_episode_without_sub_goals_has_none(tmp_path: Path) -> None:
    silent = record(3, "random")
    silent.stages = []
    assert write(tmp_path / "silent", [silent])[1]["language_persistent"] == []


def test_episodes_are_found_by_their_marks(dataset: LeRobotDataset) -> None:
    chosen = LeRobotDataset(
        "local/ours",
        root=dataset.root,
        video_backend="pyav",
        episode_filter=lambda row: (
            row["success"] and row["behaviour"] == "random" and row["seed"] == 2**31 + 4
        ),
    )
    assert chosen.episodes == [2]
    assert chosen.meta.episodes is not None
    assert chosen.meta.episodes["env_task"] == ["reach", "push", "reach"]


def test_marks_and_sub_goals_survive_a_merge(dataset: LeRobotDataset, tmp_path: Path) -> None:
    roots = [dataset.root, dataset.root]
    aggregate_datasets(["local/ours"] * 2, "local/merged", roots=roots, aggr_root=tmp_path / "merged")
    merged = LeRobotDataset("local/merged", root=tmp_path / "merged", video_backend="pyav")
    assert merged.meta.episodes is not None
    assert merged.meta.episodes["behaviour"] == ["expert", "noisy", "random"] * 2
    assert merged[16]["language_persistent"] == dataset[0]["language_persistent"]


def test_a_full_file_is_followed_by_another(
    episodes: list[RecordedEpisode], dataset: LeRobotDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With megabytes of 100 bytes, every episode fills a file."""
    monkeypatch.setattr(writer_module, "BYTES_PER_MB", 100)
    split = write(tmp_path / "split", episodes)
    assert len(list(split.root.glob("data/*/*.parquet"))) == 3
    assert torch.equal(split[15]["action"], dataset[15]["action"])


def test_films_show_each_episode_from_its_first_frame(tmp_path: Path) -> None:
    """Grey pictures, brighter with every frame, survive the coding to within a few levels."""
    films = []
    for length, offset in ((4, 20), (6, 120)):
        episode = record(length)
        levels = [offset + 15 * i for i in range(length)]
        stacks = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in levels])
        episode.pictures = {camera: [encode(picture) for picture in stacks] for camera in "ab"}
        films.append((episode, levels))
    dataset = write(tmp_path / "films", [episode for episode, _ in films], video=True)
    assert dataset.meta.video_keys == ["observation.images.a", "observation.images.b"]
    expected = [level for _, levels in films for level in levels]
    found = [255 * dataset[i]["observation.images.b"].mean().item() for i in range(10)]
    np.testing.assert_allclose(found, expected, atol=6)


@pytest.mark.parametrize("video", [False, True])
def test_the_folder_is_a_data_set_after_every_episode_whoever_writes_it(
    episodes: list[RecordedEpisode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: bool
) -> None:
    """One writer per episode, as after interruptions, gives the very files of a single writer."""
    monkeypatch.setattr(writer_module, "EPISODES_PER_TABLE", 2)
    episodes = [*episodes, record(6)]
    for count, episode in enumerate(episodes, start=1):
        opened = write(tmp_path / "often", [episode], video=video)
        assert opened.num_episodes == count
        assert opened[len(opened) - 1]["action"].tolist() == episode.action[-1].tolist()
    write(tmp_path / "once", episodes, video=video)
    assert fingerprint(tmp_path / "often") == fingerprint(tmp_path / "once")
    assert len(list((tmp_path / "once").glob("meta/episodes/*/*.parquet"))) == 2


def test_what_a_failed_write_leaves_is_the_data_set_before_it(
    episodes: list[RecordedEpisode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, episodes[:1])
    before = fingerprint(tmp_path)
    monkeypatch.setattr(writer_module, "_as_json", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, episodes[1:2])
    monkeypatch.undo()
    assert fingerprint(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"data", "meta"}
    assert write(tmp_path, episodes[1:2]).num_episodes == 2


def test_pixel_statistics_are_those_of_the_pixels() -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 200, (5, 8, 8, 3), dtype=np.uint8)
    pictures[..., 1] //= 2
    statistics = pixel_statistics(count_pixels(pictures), 5)
    pixels = pictures.reshape(-1, 3) / 255
    for name, expected in {
        "min": pixels.min(axis=0),
        "max": pixels.max(axis=0),
        "mean": pixels.mean(axis=0),
        "std": pixels.std(axis=0),
        "q50": np.quantile(pixels, 0.5, axis=0, method="inverted_cdf"),
        "q99": np.quantile(pixels, 0.99, axis=0, method="inverted_cdf"),
    }.items():
        np.testing.assert_allclose(statistics[name].ravel(), expected, atol=1e-9, err_msg=name)
    assert statistics["count"].tolist() == [5]
