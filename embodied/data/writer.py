"""Recorded episodes into a LeRobotDataset v3 folder that stock LeRobot can open after every one of them.

LeRobot's own `save_episode` leaves files that nobody can read until it is finalized, can write neither the
language column nor marks per episode, and takes 3.8 ms a frame (it decodes the pictures again for its
statistics). So the files are written here, from LeRobot's features; the result is what `save_episode` writes,
with one Parquet row group per episode. An episode replaces the last data file and the last episode table by
ones with its rows appended, so both are kept small. Every file depends on the one it replaces and the new
episode alone: a data set does not tell where its writing was interrupted.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.arrow_writer import OptimizedTypedSequence
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.compute_stats import DEFAULT_QUANTILES, aggregate_stats, compute_episode_stats
from lerobot.datasets.dataset_metadata import CODEBASE_VERSION
from lerobot.datasets.feature_utils import create_empty_dataset_info, get_hf_features_from_features
from lerobot.datasets.io_utils import cast_stats_to_numpy, load_info, load_stats, load_tasks
from lerobot.datasets.language import LANGUAGE_PERSISTENT, language_feature_info
from lerobot.datasets.utils import (
    DEFAULT_EPISODES_PATH,
    DEFAULT_TASKS_PATH,
    INFO_PATH,
    STATS_PATH,
    DatasetInfo,
    serialize_dict,
)
from lerobot.datasets.video_utils import encode_video_frames, get_video_info
from lerobot.utils.constants import ACTION, DEFAULT_FEATURES, DONE, OBS_IMAGES, OBS_STATE, REWARD
from lerobot.utils.utils import flatten_dict

from embodied.data.behaviours import RecordedEpisode
from embodied.data.commit import Commit, new_commit, recover
from embodied.data.growing import GrowingFiles
from embodied.errors import UserError
from envs.simulated import SimulatedEnv

SUCCESS = "next.success"
BEHAVIOUR = "behaviour"
DATA_FILE_MB = 16
"""Every episode rewrites the last file: small pictures are copied some three times, large ones never."""

EPISODES_PER_TABLE = 200
"""A table of a single episode takes 63 kB and 13 ms, one of 200 takes 86 kB and 20 ms."""

BYTES_PER_MB = 2**20


@dataclass(frozen=True, kw_only=True)
class RobotSource:
    """A robot that is recorded, described as a simulated environment would be.

    pictures: (H, W, 3) by camera; knows_success: whether it can tell that a task is solved; the rest as in
    `SimulatedEnv`. No robot knows a reward.
    """

    fps: int
    robot_type: str
    pictures: Mapping[str, tuple[int, int, int]]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    knows_success: bool

    @property
    def cameras(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.pictures)

    @cached_property
    def observation_space(self) -> dict[str, dict[str, gym.Space]]:
        """Of the pictures alone."""
        return {
            "pixels": {name: gym.spaces.Box(0, 255, size, np.uint8) for name, size in self.pictures.items()}
        }


Source = SimulatedEnv | RobotSource


def _outcomes(env: Source) -> tuple[str, ...]:
    """Columns on what was reached, as far as it can be told. A column of zeros would say that all failed."""
    if isinstance(env, RobotSource):
        return (SUCCESS,) if env.knows_success else ()
    return REWARD, SUCCESS


def make_features(env: Source, *, video: bool) -> dict[str, dict]:
    """LeRobot's description of every column that is not a default one."""
    picture = {"dtype": "video" if video else "image", "names": ["height", "width", "channels"]}
    observation: Any = env.observation_space
    shapes = {camera: space.shape for camera, space in observation["pixels"].items()}
    scalar = {"shape": (1,), "names": None}
    outcomes = {REWARD: {"dtype": "float32", **scalar}, SUCCESS: {"dtype": "bool", **scalar}}
    return {
        **{f"{OBS_IMAGES}.{camera}": {**picture, "shape": shapes[camera]} for camera in env.cameras},
        OBS_STATE: {"dtype": "float32", "shape": (len(env.state_names),), "names": list(env.state_names)},
        ACTION: {"dtype": "float32", "shape": (len(env.action_names),), "names": list(env.action_names)},
        **{name: outcomes[name] for name in _outcomes(env)},
        DONE: {"dtype": "bool", **scalar},
        BEHAVIOUR: {"dtype": "string", **scalar},
        LANGUAGE_PERSISTENT: language_feature_info()[LANGUAGE_PERSISTENT],
    }


def film_encoder() -> RGBEncoderConfig:
    """H.264, three times as fast as LeRobot's AV1 at these sizes; its reports of each film are turned off."""
    quiet = {"x264-params": "log=0"}
    return RGBEncoderConfig(vcodec="h264", crf=18, preset="veryfast", extra_options=quiet)


def count_episodes(root: Path) -> int:
    """Episodes of the data set in `root`, 0 if it is not begun."""
    return load_info(root).total_episodes if (root / INFO_PATH).is_file() else 0


class EpisodeWriter:
    """Appends episodes to a data set, a new one or one that was interrupted.

    Marks of an episode stand in LeRobot's episode table, where `LeRobotDataset(episode_filter=...)` finds
    them: `behaviour`, `success` (if known), `seed` (of the environment), `env_task` and `attempts` (until the
    expert succeeded). Its tools for deleting and splitting drop such columns, so `behaviour` and
    `next.success` are also columns of the frames, which every tool keeps.
    """

    def __init__(self, root: Path, env: Source, *, video: bool) -> None:
        """root: a folder that exists; what it holds already has come from the same arguments.

        Raises UserError if a recording of something else lies there.
        """
        recover(root)
        self._root = root
        if (root / INFO_PATH).is_file():
            self._info = load_info(root)
            self._check_continues(env, video=video)
            self._tasks: list[str] = load_tasks(root).sort_values("task_index").index.tolist()
        else:
            self._info = create_empty_dataset_info(
                CODEBASE_VERSION,
                env.fps,
                {**make_features(env, video=video), **deepcopy(DEFAULT_FEATURES)},
                use_videos=video,
                robot_type=env.robot_type,
                data_files_size_in_mb=DATA_FILE_MB,
            )
            self._tasks = []
        self._stats = load_stats(root)
        self._hf_features = get_hf_features_from_features(self._info.features)
        self._image_keys = [key for key, kind in self._info.features.items() if kind["dtype"] == "image"]
        self._video_keys = [key for key, kind in self._info.features.items() if kind["dtype"] == "video"]
        chunks_size, pictures = self._info.chunks_size, tuple(f"{key}.bytes" for key in self._image_keys)
        self._data = GrowingFiles(root, self._info.data_path, chunks_size, incompressible=pictures)
        self._table = GrowingFiles(root, DEFAULT_EPISODES_PATH, chunks_size, one_row_group=True)

    def _check_continues(self, env: Source, *, video: bool) -> None:
        """Raise UserError naming the first thing in which the data set differs from what would be added."""
        features = make_features(env, video=video) | DEFAULT_FEATURES
        found: dict[str, Any] = {"robot type": self._info.robot_type, "fps": self._info.fps}
        expected: dict[str, Any] = {"robot type": env.robot_type, "fps": env.fps}
        for when, described in ((found, self._info.features), (expected, features)):
            when["columns"] = sorted(described)
            when |= {f"names of {key}": described[key]["names"] for key in (OBS_STATE, ACTION)}
            when |= {f"shape of {key}": tuple(described[key]["shape"]) for key in sorted(described)}
        for name, value in expected.items():
            if found.get(name) != value:
                held = f"{self._root}: a data set with {name} {found.get(name)}"
                raise UserError(f"{held}: expected {value}, or a new folder")

    @property
    def num_frames(self) -> int:
        """Frames on the disk."""
        return self._info.total_frames

    @property
    def num_episodes(self) -> int:
        """Episodes on the disk."""
        return self._info.total_episodes

    def marks(self) -> list[dict[str, Any]]:
        """Of every episode on the disk its marks, `length` and `tasks`."""
        names = [BEHAVIOUR, "success", "seed", "env_task", "attempts", "length", "tasks"]
        paths = sorted(self._root.glob("meta/episodes/*/*.parquet"))
        return [row for path in paths for row in pq.read_table(path, columns=names).to_pylist()]

    def add(self, episode: RecordedEpisode) -> None:
        """Append one episode. When this returns, it is on the disk.

        If this fails, what was on the disk still is; a new writer can go on.
        """
        tasks = self._tasks if episode.instruction in self._tasks else [*self._tasks, episode.instruction]
        columns = self._columns(episode, tasks)
        statistics = compute_episode_stats(columns, self._info.features)
        for camera, counts in episode.pixel_counts.items():
            statistics[f"{OBS_IMAGES}.{camera}"] = pixel_statistics(counts, episode.num_frames)
        info = self._info_with(episode, tasks)
        # In this order no reader meets a row without its film, or a count that the rows do not reach.
        with new_commit(self._root) as commit:
            places = self._add_films(commit, episode, info)
            places |= self._add_rows(commit, episode, columns)
            if tasks != self._tasks:
                commit.add(DEFAULT_TASKS_PATH, _tasks_file(tasks))
            self._add_to_table(commit, episode, places, statistics)
            stats = self._add_stats(commit, statistics)
            commit.add(INFO_PATH, _as_json(info.to_dict()))
        self._info, self._tasks, self._stats = info, tasks, stats

    def _info_with(self, episode: RecordedEpisode, tasks: list[str]) -> DatasetInfo:
        info = deepcopy(self._info)
        info.total_episodes += 1
        info.total_frames += episode.num_frames
        info.total_tasks = len(tasks)
        info.splits = {"train": f"0:{info.total_episodes}"}
        return info

    def _columns(self, episode: RecordedEpisode, tasks: list[str]) -> dict[str, Any]:
        frames = np.arange(episode.num_frames)
        told = {REWARD: episode.reward, SUCCESS: episode.success}
        return {
            OBS_STATE: episode.state,
            ACTION: episode.action,
            **{name: values for name, values in told.items() if values is not None},
            DONE: frames == episode.num_frames - 1,
            BEHAVIOUR: [episode.job.behaviour] * episode.num_frames,
            "timestamp": frames / self._info.fps,
            "frame_index": frames,
            "index": self._info.total_frames + frames,
            "episode_index": np.full_like(frames, self._info.total_episodes),
            "task_index": np.full_like(frames, tasks.index(episode.instruction)),
        }

    def _add_rows(self, commit: Commit, episode: RecordedEpisode, columns: dict[str, Any]) -> dict[str, int]:
        """Append a row group; returns which file it goes to."""
        for key in self._image_keys:
            files = episode.pictures[key.removeprefix(f"{OBS_IMAGES}.")]
            columns[key] = [{"bytes": file, "path": None} for file in files]
        columns[LANGUAGE_PERSISTENT] = [_subtask_rows(episode.stages, self._info.fps)]
        # `datasets.Dataset` would take most of the time for a fingerprint of the rows, which nobody asks for.
        arrays = {key: self._as_arrow(key, columns[key]) for key in self._hf_features}
        language = arrays[LANGUAGE_PERSISTENT]
        arrays[LANGUAGE_PERSISTENT] = pa.concat_arrays([language] * episode.num_frames)
        table = pa.table(arrays, schema=self._hf_features.arrow_schema)
        is_full = self._data.num_bytes + table.nbytes >= self._info.data_files_size_in_mb * BYTES_PER_MB
        chunk, file = self._data.append(commit, table, in_new_file=is_full)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _as_arrow(self, key: str, values: Sequence[Any] | np.ndarray) -> pa.Array:
        encoded = self._hf_features.encode_column(values, key)
        return pa.array(OptimizedTypedSequence(encoded, type=self._hf_features[key], col=key))

    def _add_films(self, commit: Commit, episode: RecordedEpisode, info: DatasetInfo) -> dict[str, Any]:
        """Encode one film per camera; returns where they stand."""
        chunk, file = divmod(self._info.total_episodes, self._info.chunks_size)
        places: dict[str, Any] = {}
        for key in self._video_keys:
            pictures = episode.pictures[key.removeprefix(f"{OBS_IMAGES}.")]
            film = commit.reserve(
                str(info.video_path).format(video_key=key, chunk_index=chunk, file_index=file)
            )
            with tempfile.TemporaryDirectory() as folder:
                for i, picture in enumerate(pictures):
                    Path(folder, f"frame-{i:06d}.png").write_bytes(picture)
                encode_video_frames(folder, film, info.fps, film_encoder())
            if not self._info.total_episodes:
                info.features[key]["info"] = get_video_info(film, video_encoder=film_encoder())
            places |= {
                f"videos/{key}/chunk_index": chunk,
                f"videos/{key}/file_index": file,
                f"videos/{key}/from_timestamp": 0.0,
                f"videos/{key}/to_timestamp": len(pictures) / info.fps,
            }
        return places

    def _add_to_table(
        self, commit: Commit, episode: RecordedEpisode, places: dict[str, Any], statistics: dict[str, dict]
    ) -> None:
        """Append the episode's row to the table of episodes."""
        is_full = self._table.num_rows >= EPISODES_PER_TABLE
        chunk, file = self._table.next_place(in_new_file=is_full)
        row = {
            "episode_index": self._info.total_episodes,
            "tasks": [episode.instruction],
            "length": episode.num_frames,
            BEHAVIOUR: episode.job.behaviour,
            **({} if episode.is_success is None else {"success": episode.is_success}),
            "seed": episode.env_seed,
            "env_task": episode.job.task,
            "attempts": episode.attempts,
            **places,
            **{key: value.tolist() for key, value in flatten_dict({"stats": statistics}).items()},
            "meta/episodes/chunk_index": chunk,
            "meta/episodes/file_index": file,
            "dataset_from_index": self._info.total_frames,
            "dataset_to_index": self._info.total_frames + episode.num_frames,
        }
        self._table.append(
            commit, pa.Table.from_pydict({key: [value] for key, value in row.items()}), in_new_file=is_full
        )

    def _add_stats(self, commit: Commit, statistics: dict[str, dict]) -> dict[str, dict]:
        """Add the episode's statistics to those of the data set, which are returned as a reader gets them."""
        total = statistics if self._stats is None else aggregate_stats([self._stats, statistics])
        # LeRobot orders the statistics as a set does, by chance; files of equal data should be equal.
        text = _as_json(serialize_dict({key: total[key] for key in self._info.features if key in total}))
        commit.add(STATS_PATH, text)
        return cast(dict[str, dict], cast_stats_to_numpy(json.loads(text)))


def _subtask_rows(stages: list[tuple[int, str]], fps: int) -> list[dict[str, Any]]:
    """Rows of the persistent language column; times are rounded as the column `timestamp` rounds them."""
    return [
        {
            "role": "assistant",
            "content": text,
            "style": "subtask",
            "timestamp": float(np.float32(frame / fps)),
            "camera": None,
            "tool_calls": None,
        }
        for frame, text in stages
    ]


def pixel_statistics(counts: np.ndarray, num_frames: int) -> dict[str, np.ndarray]:
    """LeRobot's statistics of pictures, in [0, 1] and shape (3, 1, 1), from their histogram (3, 256)."""
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    cumulative = np.cumsum(share, axis=1)
    present = counts > 0
    statistics = {
        "min": values[present.argmax(axis=1)],
        "max": values[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(share @ values**2 - mean**2, 0)),
    }
    for quantile in DEFAULT_QUANTILES:
        statistics[f"q{int(quantile * 100):02d}"] = values[(cumulative >= quantile).argmax(axis=1)]
    shaped = {name: value.reshape(3, 1, 1) for name, value in statistics.items()}
    return shaped | {"count": np.array([num_frames])}


def _tasks_file(tasks: list[str]) -> bytes:
    return pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, name="task")).to_parquet()


def _as_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=4, ensure_ascii=False).encode()
