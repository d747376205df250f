"""A data set ready for training: decoded pictures mapped into memory, everything else in it.

Pictures are decoded once, into one uint8 array per camera; its folder bears the data set's fingerprint, so
that changed data are decoded afresh. The other columns are read from Parquet at each start, in
milliseconds. N frames, E episodes, H, W picture size.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.language import is_language_column
from lerobot.datasets.video_utils import decode_video_frames
from PIL import Image
from tqdm import tqdm

from embodied.data.dataset import (
    damage_reported,
    data_files,
    episode_rows,
    fingerprint,
    open_metadata,
    select_cameras,
    task_names,
)
from embodied.data.selection import (
    check_finite,
    frames_of,
    select_episodes,
    select_successes,
    steps_to_success,
)
from embodied.data.subgoals import last_of_stages, subgoals_of_frames
from embodied.errors import UserError

CACHE_FOLDER = Path(".cache", "huggingface", "embodied")
"""Inside the data set, so that it goes when the data set goes; the hub's upload skips this folder of its
own and refuses any other `.cache`."""

DECODED_AT_ONCE = 256
TIMESTAMP_TOLERANCE = 1e-4
"""Seconds by which a film's frame may miss its row's time: LeRobot's default."""


@dataclass(frozen=True, kw_only=True)
class FrameCache:
    """A data set in memory.

    features: LeRobot's description of the columns, without cameras that were not asked for and under the
    names asked for; cameras: those names -> the data set's own; images: per camera (N, H, W, 3) uint8, mapped
    from disk; columns: every other column, (N, ...) float32, int64, bool or
    object for text; tasks: (number of tasks,) instructions; first, last: (N,) first and last frame of each
    frame's episode; steps_to_success: (N,) float32, see `selection.steps_to_success`; subgoals: (number of
    sub-goals,) in words; subgoal_index: (N,) int64, the one in force, -1 for none; stage_last: (N,) the last
    frame on which it goes on without a break; episodes, frames: indices of those that are to be used;
    fingerprint: of the data set.
    """

    root: Path
    fingerprint: str
    fps: int
    features: dict[str, dict]
    cameras: dict[str, str]
    images: dict[str, np.ndarray]
    columns: dict[str, np.ndarray]
    tasks: np.ndarray
    first: np.ndarray
    last: np.ndarray
    steps_to_success: np.ndarray
    subgoals: np.ndarray
    subgoal_index: np.ndarray
    stage_last: np.ndarray
    episodes: np.ndarray
    frames: np.ndarray

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.first)

    @property
    def num_episodes(self) -> int:
        """E."""
        return int(self.columns["episode_index"][-1]) + 1

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        cameras: str | None = None,
        episodes: list[int] | None = None,
        success_only: bool = False,
    ) -> "FrameCache":
        """Open a data set, decoding the pictures of cameras that are not decoded yet.

        cameras: comma list of names or `old:new`, every colour camera if None; episodes: those to use, all if
        None; success_only: of these the successful ones.

        Raises:
            UserError: missing, empty or damaged data set, unknown camera or episode, no successes, NaN in the
                states or actions to use, or no room.
        """
        meta = open_metadata(Path(root))
        keys = select_cameras(meta, cameras)
        columns = read_columns(meta)
        rows = episode_rows(meta)
        _check_lengths(meta, rows, columns)
        if success_only:
            chosen = select_successes(meta, columns, episodes)
        else:
            chosen = select_episodes(meta.total_episodes, episodes)
        frames = frames_of(columns, chosen)
        check_finite(meta, columns, frames)
        store = _open_store(meta.root)
        images = {
            key: _open_images(meta, stored, columns["timestamp"], store) for key, stored in keys.items()
        }
        lengths = np.array([row["length"] for row in rows])
        first = np.repeat([row["dataset_from_index"] for row in rows], lengths)
        last = first + np.repeat(lengths, lengths) - 1
        subgoals, subgoal_index = subgoals_of_frames(meta, first, columns["timestamp"])
        return cls(
            root=meta.root,
            fingerprint=store.name,
            fps=meta.fps,
            features=_seen_features(meta, keys, columns),
            cameras=keys,
            images=images,
            columns=columns,
            tasks=np.array(task_names(meta), dtype=object),
            first=first,
            last=last,
            steps_to_success=steps_to_success(meta, columns),
            subgoals=subgoals,
            subgoal_index=subgoal_index,
            stage_last=last_of_stages(subgoal_index, last),
            episodes=chosen,
            frames=frames,
        )


def _check_lengths(meta: LeRobotDatasetMetadata, rows: list[dict], columns: Mapping[str, np.ndarray]) -> None:
    """Refuse frames that info.json or the table of episodes does not know."""
    found = columns["episode_index"]
    if len(found) != meta.total_frames:
        raise UserError(
            f"{meta.root}: expected {meta.total_frames} frames as in its info.json, found {len(found)}"
        )
    told = np.repeat([row["episode_index"] for row in rows], [row["length"] for row in rows])
    if not np.array_equal(found, told):
        raise UserError(f"{meta.root}: expected the frames of each episode as in meta/episodes, found others")


def _seen_features(
    meta: LeRobotDatasetMetadata, cameras: dict[str, str], columns: Mapping[str, np.ndarray]
) -> dict[str, dict]:
    """Descriptions of what is loaded, in the data set's order."""
    names = {stored: seen for seen, stored in cameras.items()}
    return {
        names.get(key, key): feature
        for key, feature in meta.features.items()
        if key in names or key in columns
    }


def _open_store(root: Path) -> Path:
    """The folder of the data set's decoded pictures, empty at first; those of former contents are deleted."""
    folder = root / CACHE_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = folder / fingerprint(root, remembered=folder / "digests.json")
        for stale in folder.iterdir():
            if stale.is_dir() and stale != store:
                shutil.rmtree(stale)
        store.mkdir(exist_ok=True)
    except PermissionError as error:
        raise UserError(f"--dataset.root={root}: expected {folder} to be writable") from error
    return store


def read_columns(meta: LeRobotDatasetMetadata) -> dict[str, np.ndarray]:
    """Every column but pictures and language, in the types to which LeRobot converts them.

    Raises:
        UserError: a file is damaged or lacks a column.
    """
    keys = [key for key in meta.features if key not in meta.camera_keys and not is_language_column(key)]
    tables = []
    for path in data_files(meta.root):
        with damage_reported(path):
            tables.append(pq.read_table(path, columns=keys))
    with damage_reported(meta.root / "data"):
        table = pa.concat_tables(tables)
        return {key: _as_array(table[key], tuple(meta.features[key]["shape"])) for key in keys}


def _as_array(column: pa.ChunkedArray, shape: tuple[int, ...]) -> np.ndarray:
    values = column.combine_chunks()
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    while pa.types.is_nested(values.type):
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False)
    for kind, dtype in ((np.floating, np.float32), (np.integer, np.int64)):
        if np.issubdtype(array.dtype, kind):
            array = array.astype(dtype)
    return array.reshape(len(column), *(shape if shape != (1,) else ()))


def _open_images(meta: LeRobotDatasetMetadata, key: str, timestamps: np.ndarray, store: Path) -> np.ndarray:
    """Decoded pictures (N, H, W, 3) of one camera, made if they are missing."""
    path = store / f"{key}.npy"
    if not path.is_file():
        height, width, channels = picture_shape(meta.features[key])
        shape = (meta.total_frames, height, width, channels)
        if shutil.disk_usage(store).free < 1.05 * np.prod(shape):
            raise UserError(
                f"{store}: expected {np.prod(shape) / 1e9:.1f} GB of free space for decoded pictures"
            )
        with tempfile.TemporaryDirectory(dir=store) as partial:
            images = np.lib.format.open_memmap(
                Path(partial, path.name), mode="w+", dtype=np.uint8, shape=shape
            )
            _decode_camera(meta, key, timestamps, images)
            images.flush()
            Path(partial, path.name).rename(path)
    return np.load(path, mmap_mode="r").view(np.ndarray)


def picture_shape(feature: dict) -> tuple[int, int, int]:
    """Height, width and channels, whichever order the data set has written them in."""
    shape = tuple(feature["shape"])
    return shape if shape[-1] == 3 else (*shape[1:], shape[0])  # type: ignore[return-value]


def _decode_camera(
    meta: LeRobotDatasetMetadata, key: str, timestamps: np.ndarray, images: np.ndarray
) -> None:
    read = _decode_film if key in meta.video_keys else _decode_pictures
    with tqdm(total=len(images), desc=f"decode {key}", unit="frame") as bar:
        for start, pictures in read(meta, key, timestamps):
            if pictures.shape[1:] != images.shape[1:]:
                found, expected = pictures.shape[1:], images.shape[1:]
                raise UserError(f"{meta.root}: {key} has a picture of shape {found}, expected {expected}")
            images[start : start + len(pictures)] = pictures
            bar.update(len(pictures))


def _decode_pictures(
    meta: LeRobotDatasetMetadata, key: str, timestamps: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures stored in Parquet rows, as (first frame, (n, H, W, 3))."""
    start = 0
    with ThreadPoolExecutor() as pool:
        for path in data_files(meta.root):
            with damage_reported(path):
                for batch in pq.ParquetFile(path).iter_batches(DECODED_AT_ONCE, columns=[key]):
                    pictures = np.stack(list(pool.map(decode_picture, batch[key].to_pylist())))
                    yield start, pictures
                    start += len(pictures)


def decode_picture(entry: dict) -> np.ndarray:
    """A picture stored in a Parquet row, (H, W, 3) uint8."""
    source = entry["path"] if entry["bytes"] is None else io.BytesIO(entry["bytes"])
    with Image.open(source) as image:
        return np.asarray(image.convert("RGB"))


def _decode_film(
    meta: LeRobotDatasetMetadata, key: str, timestamps: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Pictures stored in films, as (first frame, (n, H, W, 3)): the frames that LeRobot itself would pick."""

    def decode(start: int, stop: int, episode: dict) -> np.ndarray:
        path = meta.root / meta.get_video_file_path(episode["episode_index"], key)
        times = [episode[f"videos/{key}/from_timestamp"] + time for time in timestamps[start:stop].tolist()]
        with damage_reported(path):
            frames = decode_video_frames(path, times, TIMESTAMP_TOLERANCE, "pyav", return_uint8=True)
        return frames.movedim(1, -1).numpy()

    def decode_episode(episode: dict) -> Iterator[tuple[int, np.ndarray]]:
        begin, end = episode["dataset_from_index"], episode["dataset_to_index"]
        for start in range(begin, end, DECODED_AT_ONCE):
            yield start, decode(start, min(start + DECODED_AT_ONCE, end), episode)

    for episode in episode_rows(meta):
        yield from decode_episode(episode)
