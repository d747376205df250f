"""Recorded episodes into a LeRobotDataset v3 folder.

LeRobot's own `save_episode` can neither write the language column nor marks per episode, and takes 3.8 ms a
frame (it decodes the pictures again for its statistics). So the rows are written here, from LeRobot's
features and through its metadata writer; the result is what `save_episode` writes, with one Parquet row
group per episode.
"""

import tempfile
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.compute_stats import DEFAULT_QUANTILES, compute_episode_stats
from lerobot.datasets.feature_utils import get_hf_features_from_features
from lerobot.datasets.io_utils import write_stats
from lerobot.datasets.language import LANGUAGE_PERSISTENT, language_feature_info
from lerobot.datasets.utils import update_chunk_file_indices
from lerobot.datasets.video_utils import encode_video_frames
from lerobot.utils.constants import ACTION, DONE, OBS_IMAGES, OBS_STATE, REWARD

from embodied.data.behaviours import RecordedEpisode

SUCCESS = "next.success"
BEHAVIOUR = "behaviour"
STATE_NAMES = ["hand_x", "hand_y", "hand_z", "gripper_opening"]
ACTION_NAMES = ["hand_dx", "hand_dy", "hand_dz", "gripper_force"]
BYTES_PER_MB = 2**20


def make_features(cameras: tuple[str, ...], height: int, width: int, *, video: bool) -> dict[str, dict]:
    """LeRobot's description of every column that is not a default one."""
    picture = {
        "dtype": "video" if video else "image",
        "shape": (height, width, 3),
        "names": ["height", "width", "channels"],
    }
    scalar = {"shape": (1,), "names": None}
    return {
        **{f"{OBS_IMAGES}.{camera}": dict(picture) for camera in cameras},
        OBS_STATE: {"dtype": "float32", "shape": (4,), "names": STATE_NAMES},
        ACTION: {"dtype": "float32", "shape": (4,), "names": ACTION_NAMES},
        REWARD: {"dtype": "float32", **scalar},
        SUCCESS: {"dtype": "bool", **scalar},
        DONE: {"dtype": "bool", **scalar},
        BEHAVIOUR: {"dtype": "string", **scalar},
        LANGUAGE_PERSISTENT: language_feature_info()[LANGUAGE_PERSISTENT],
    }


def film_encoder() -> RGBEncoderConfig:
    """H.264, three times as fast as LeRobot's AV1 at these sizes; its reports of each film are turned off."""
    quiet = {"x264-params": "log=0"}
    return RGBEncoderConfig(vcodec="h264", crf=18, preset="veryfast", extra_options=quiet)


class EpisodeWriter:
    """Appends episodes to a new data set; `finalize` completes it.

    Marks of an episode stand in LeRobot's episode table, where `LeRobotDataset(episode_filter=...)` finds
    them: `behaviour`, `success`, `seed` (of the environment) and `env_task`. Its tools for deleting and
    splitting drop such columns, so `behaviour` and `next.success` are also columns of the frames, which
    every tool keeps.
    """

    def __init__(self, root: Path, repo_id: str, fps: int, features: dict[str, dict]) -> None:
        """root: folder to create."""
        video_keys = [key for key, feature in features.items() if feature["dtype"] == "video"]
        self._meta = LeRobotDatasetMetadata.create(
            repo_id=repo_id,
            fps=fps,
            features=features,
            robot_type="metaworld_sawyer",
            root=root,
            use_videos=bool(video_keys),
        )
        self._encoder = film_encoder() if video_keys else None
        self._hf_features = get_hf_features_from_features(self._meta.features)
        self._parquet: pq.ParquetWriter | None = None
        self._data_file = (0, 0)

    def add(self, episode: RecordedEpisode) -> None:
        """Append one episode."""
        index = self._meta.total_episodes
        self._meta.save_episode_tasks([episode.instruction])
        columns = self._columns(episode)
        statistics = compute_episode_stats(columns, self._meta.features)
        for camera, counts in episode.pixel_counts.items():
            statistics[f"{OBS_IMAGES}.{camera}"] = pixel_statistics(counts, episode.num_frames)
        pictures = {f"{OBS_IMAGES}.{camera}": files for camera, files in episode.pictures.items()}
        marks: dict[str, Any] = {
            BEHAVIOUR: episode.job.behaviour,
            "success": episode.is_success,
            "seed": episode.env_seed,
            "env_task": episode.job.task,
        }
        for key in self._meta.video_keys:
            marks |= self._write_video(key, index, pictures[key])
        for key in self._meta.image_keys:
            columns[key] = [{"bytes": file, "path": None} for file in pictures[key]]
        columns[LANGUAGE_PERSISTENT] = [_subtask_rows(episode.stages, self._meta.fps)] * episode.num_frames
        marks |= self._write_rows(columns)
        self._meta.save_episode(index, episode.num_frames, [episode.instruction], statistics, marks)

    def _columns(self, episode: RecordedEpisode) -> dict[str, Any]:
        frames = np.arange(episode.num_frames)
        return {
            OBS_STATE: episode.state,
            ACTION: episode.action,
            REWARD: episode.reward,
            SUCCESS: episode.success,
            DONE: frames == episode.num_frames - 1,
            BEHAVIOUR: [episode.job.behaviour] * episode.num_frames,
            "timestamp": frames / self._meta.fps,
            "frame_index": frames,
            "index": self._meta.total_frames + frames,
            "episode_index": np.full_like(frames, self._meta.total_episodes),
            "task_index": np.full_like(frames, self._meta.get_task_index(episode.instruction)),
        }

    def _write_rows(self, columns: dict[str, Any]) -> dict[str, int]:
        """Append a row group; returns which file it went to."""
        ordered = {key: columns[key] for key in self._hf_features}
        rows = datasets.Dataset.from_dict(ordered, features=self._hf_features)
        table = cast(pa.Table, rows.with_format("arrow")[:])
        if self._parquet is not None and self._is_full(table.nbytes):
            self._parquet.close()
            self._parquet = None
            self._data_file = update_chunk_file_indices(*self._data_file, self._meta.chunks_size)
        chunk, file = self._data_file
        if self._parquet is None:
            path = self._data_path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._parquet = pq.ParquetWriter(path, schema=table.schema, compression="snappy")
        self._parquet.write_table(table)
        return {"data/chunk_index": chunk, "data/file_index": file}

    def _data_path(self) -> Path:
        chunk, file = self._data_file
        return self._meta.root / self._meta.data_path.format(chunk_index=chunk, file_index=file)

    def _is_full(self, more_bytes: int) -> bool:
        written = self._data_path().stat().st_size
        return written + more_bytes >= self._meta.data_files_size_in_mb * BYTES_PER_MB

    def _write_video(self, key: str, episode_index: int, pictures: list[bytes]) -> dict[str, Any]:
        """Encode one film per episode and camera; returns where it stands."""
        chunk, file = divmod(episode_index, self._meta.chunks_size)
        name = str(self._meta.video_path).format(video_key=key, chunk_index=chunk, file_index=file)
        with tempfile.TemporaryDirectory() as folder:
            for i, picture in enumerate(pictures):
                Path(folder, f"frame-{i:06d}.png").write_bytes(picture)
            encode_video_frames(folder, self._meta.root / name, self._meta.fps, self._encoder)
        if episode_index == 0:
            self._meta.update_video_info(key, self._encoder)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": 0.0,
            f"videos/{key}/to_timestamp": len(pictures) / self._meta.fps,
        }

    def finalize(self) -> None:
        """Write the footers, without which no file can be read."""
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
        self._meta.finalize()
        # LeRobot orders the statistics as a set does, by chance; files of equal data should be equal.
        statistics = self._meta.stats or {}
        write_stats(
            {key: statistics[key] for key in self._meta.features if key in statistics}, self._meta.root
        )

    @property
    def num_frames(self) -> int:
        """Frames written so far."""
        return self._meta.total_frames


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
