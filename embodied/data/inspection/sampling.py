"""Pictures for inspection: a sample of bounded cost, or all of them, summed up one by one.

A sample is up to `WINDOWS` windows of `WINDOW` consecutive frames per camera, spread evenly over all frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
from av import logging as av_logging
from av.error import FFmpegError
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.video_utils import decode_video_frames
from tqdm import tqdm

from embodied.data.cache import damage_reported, data_files, decode_picture
from embodied.data.dataset import first_line
from embodied.data.inspection.recording import Episode, PictureSample
from embodied.errors import UserError

WINDOWS, WINDOW = 32, 16
DECODED_AT_ONCE = 32
BLOCK = 8
"""Pixels: pictures are compared by the means of such blocks, which the noise of a film leaves alone."""

SAME_IN_FILM = 3.0
"""Grey levels by which blocks of equal pictures differ once encoded and settled, some frames after a change:
0 to 1.5 in H.264 at LeRobot's quality, where a moving robot changes 10 to 100 within a few frames."""

Row = Mapping[str, Any]
Seen = tuple[int, np.ndarray | str]
"""A frame of the data set with its picture (H, W, 3) uint8, or the reason why there is none."""


def choose_windows(episodes: Sequence[Episode], *, all_frames: bool) -> list[tuple[Episode, int, int]]:
    """Stretches of rows to look at, each within one episode and from start to stop."""
    total = sum(episode.length for episode in episodes)
    if all_frames or total <= WINDOWS * WINDOW:
        return [(episode, episode.start, episode.stop) for episode in episodes]
    windows, done = [], 0
    for row in np.linspace(0, total - 1, WINDOWS).round().astype(int).tolist():
        episode = next(episode for episode in episodes if row < episode.stop)
        start = max(episode.start, done, min(row, episode.stop - WINDOW))
        done = min(start + WINDOW, episode.stop)
        if start < done:
            windows.append((episode, start, done))
    return windows


def sample_pictures(
    metadata: LeRobotDatasetMetadata,
    rows: Sequence[Row],
    timestamps: np.ndarray,
    episodes: Sequence[Episode],
    *,
    all_frames: bool,
) -> dict[str, PictureSample]:
    """Look at the pictures of every colour camera.

    rows: the table of episodes; timestamps: of all frames. Raises UserError if a film is missing or the rows
    cannot be read.
    """
    windows = choose_windows(episodes, all_frames=all_frames)
    table = {row["episode_index"]: row for row in rows}
    samples = {}
    for key in metadata.camera_keys:
        if key in metadata.depth_keys:
            continue
        summary = _Summary(tolerance=SAME_IN_FILM if key in metadata.video_keys else 0.0)
        if key in metadata.video_keys:
            films = _Films(metadata, key, table, summary)
            seen = films.pictures(windows, timestamps)
        else:
            seen = _stored_pictures(metadata.root, key, windows)
        total = sum(stop - start for _, start, stop in windows)
        with _quiet_decoders():
            for row, picture in tqdm(seen, total=total, desc=f"look at {key}", unit="picture", leave=False):
                summary.add(row, picture)
        samples[key] = summary.result()
    return samples


@contextmanager
def _quiet_decoders() -> Iterator[None]:
    """Damage is reported as a finding, not as pages of FFmpeg's remarks."""
    level = av_logging.get_level()
    av_logging.set_level(av_logging.PANIC)
    try:
        yield
    finally:
        av_logging.set_level(level)


@dataclass
class _Summary:
    """Sums pictures up as they come, one camera's in the order of their rows."""

    tolerance: float
    rows: list[int] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    shapes: dict[tuple[int, ...], int] = field(default_factory=dict)
    unreadable: list[tuple[int, int, str]] = field(default_factory=list)
    short_films: list[tuple[int, float, float]] = field(default_factory=list)
    rates: dict[float, int] = field(default_factory=dict)
    _first_of_its_kind: np.ndarray | None = None

    def add(self, row: int, picture: np.ndarray | str) -> None:
        if isinstance(picture, str):
            self.add_unreadable(row, row, picture)
            return
        self.shapes.setdefault(picture.shape, row)
        few = picture[::2, ::2].mean(axis=-1)
        low, high = np.percentile(few, [1, 99])
        self.repeats.append(self._count_repeats(row, picture))
        self.rows.append(row)
        self.spread.append(float(high - low))

    def _count_repeats(self, row: int, picture: np.ndarray) -> int:
        """Compared with the first of a run, not with its neighbour, so that slow movement adds up."""
        follows = bool(self.rows) and self.rows[-1] == row - 1
        first = self._first_of_its_kind
        if follows and first is not None and _difference(first, picture) <= self.tolerance:
            return max(self.repeats[-1], 0) + 1
        self._first_of_its_kind = picture
        return 0 if follows else -1

    def add_unreadable(self, first: int, last: int, reason: str) -> None:
        if self.unreadable and self.unreadable[-1][1] == first - 1 and self.unreadable[-1][2] == reason:
            first = self.unreadable.pop()[0]
        self.unreadable.append((first, last, reason))

    def result(self) -> PictureSample:
        return PictureSample(
            rows=np.array(self.rows, int),
            spread=np.array(self.spread, float),
            repeats=np.array(self.repeats, int),
            shapes=self.shapes,
            unreadable=self.unreadable,
            short_films=self.short_films,
            rates=self.rates,
        )


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """Largest difference of a block's mean in grey levels, zero only for equal pictures."""
    if before.shape != after.shape:
        return np.inf
    if np.array_equal(before, after):
        return 0.0
    return max(float(np.abs(_blocks(after) - _blocks(before)).max()), 1e-3)


def _blocks(picture: np.ndarray) -> np.ndarray:
    height, width = (max(size // BLOCK, 1) * min(BLOCK, size) for size in picture.shape[:2])
    tall, wide = min(BLOCK, picture.shape[0]), min(BLOCK, picture.shape[1])
    cropped = picture[:height, :width].astype(np.float32)
    return cropped.reshape(height // tall, tall, width // wide, wide, -1).mean(axis=(1, 3))


# --- pictures in rows -----------------------------------------------------------------------------


def _stored_pictures(root: Path, key: str, windows: Sequence[tuple[Episode, int, int]]) -> Iterator[Seen]:
    """Pictures of the Parquet rows in `windows`, a row group at a time."""
    wanted = np.concatenate([np.arange(start, stop) for _, start, stop in windows])
    group_start = 0
    for path in data_files(root):
        with damage_reported(path):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                group_stop = group_start + file.metadata.row_group(group).num_rows
                first, last = np.searchsorted(wanted, [group_start, group_stop])
                if first < last:
                    column = file.read_row_group(group, columns=[key])[key]
                    for row in wanted[first:last].tolist():
                        yield row, _opened(column[row - group_start].as_py())
                group_start = group_stop


def _opened(entry: dict | None) -> np.ndarray | str:
    try:
        return "there is none" if entry is None else decode_picture(entry)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        return first_line(error).split(" <_io")[0]  # without the address of a file in memory


# --- pictures in films ----------------------------------------------------------------------------


class _Films:
    """One camera's films; what is wrong with a film as a whole goes to the summary at once."""

    def __init__(
        self, metadata: LeRobotDatasetMetadata, key: str, table: Mapping[int, Row], summary: _Summary
    ) -> None:
        self._metadata, self._key, self._table, self._summary = metadata, key, table, summary
        self._tolerance = 0.5 / metadata.fps
        self._ends: dict[Path, float | str] = {}
        for index, row in table.items():
            path = self._path(row)
            if path not in self._ends:
                self._ends[path] = self._open(path, index)
            end = self._ends[path]
            needed = self._start(row) + (row["length"] - 1) / metadata.fps
            if not isinstance(end, str) and needed + self._tolerance > end:
                summary.short_films.append((index, needed, end))

    def _path(self, row: Row) -> Path:
        chunk, file = (row[f"videos/{self._key}/{part}_index"] for part in ("chunk", "file"))
        name = str(self._metadata.video_path).format(video_key=self._key, chunk_index=chunk, file_index=file)
        return self._metadata.root / name

    def _start(self, row: Row) -> float:
        return row[f"videos/{self._key}/from_timestamp"]

    def _open(self, path: Path, index: int) -> float | str:
        """Seconds at which the film ends, or why it cannot be opened."""
        if not path.is_file():
            raise UserError(f"{path}: is missing, expected a film for episode {index}")
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                if stream.average_rate is not None:
                    self._summary.rates.setdefault(round(float(stream.average_rate), 3), index)
                seconds = np.inf
                if stream.duration is not None and stream.time_base is not None:
                    seconds = float(stream.duration * stream.time_base)
        except (FFmpegError, IndexError, OSError) as error:
            return f"{path.name}: {first_line(error).split(':')[0]}"
        return seconds

    def pictures(self, windows: Sequence[tuple[Episode, int, int]], timestamps: np.ndarray) -> Iterator[Seen]:
        """Pictures of the rows in `windows`, as far as their film reaches."""
        for episode, start, stop in windows:
            row = self._table.get(episode.index)
            if row is None:
                continue
            path = self._path(row)
            end = self._ends[path]
            if isinstance(end, str):
                self._summary.add_unreadable(start, stop - 1, end)
                continue
            times = self._start(row) + timestamps[start:stop].astype(np.float64)
            reached = start + int((times + self._tolerance < end).sum())
            for first in range(start, reached, DECODED_AT_ONCE):
                last = min(first + DECODED_AT_ONCE, reached)
                yield from self._decode(path, first, times[first - start : last - start])

    def _decode(self, path: Path, first: int, times: np.ndarray) -> Iterator[Seen]:
        try:
            frames = decode_video_frames(path, times.tolist(), self._tolerance, "pyav", return_uint8=True)
        except (FFmpegError, IndexError, OSError, RuntimeError, ValueError) as error:
            reason = f"{path.name}: {first_line(error).split(':')[0]}"
            yield from ((first + place, reason) for place in range(len(times)))
            return
        for place, frame in enumerate(frames.movedim(1, -1).numpy()):
            yield first + place, frame
