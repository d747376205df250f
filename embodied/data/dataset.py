"""A LeRobotDataset v3 folder: metadata, cameras and identity. Reads the disk only, never the hub."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from av.error import FFmpegError
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.utils import CompatibilityError
from lerobot.utils.constants import OBS_IMAGES, OBS_PREFIX
from PIL import UnidentifiedImageError

from embodied.errors import UserError

PARTS = ("meta", "data", "videos")
NEEDED = ("meta/info.json", "meta/tasks.parquet", "meta/episodes/*/*.parquet", "data/*/*.parquet")


def open_metadata(root: Path) -> LeRobotDatasetMetadata:
    """Read the metadata of a data set.

    Raises:
        UserError: `root` holds no data set, an empty one, or one of an older version.
    """
    for pattern in NEEDED:
        if next(root.glob(pattern), None) is None:
            raise UserError(f"--dataset.root={root}: expected a LeRobotDataset folder, with {pattern}")
    for path in (root / "meta/tasks.parquet", *sorted(root.glob("meta/episodes/*/*.parquet"))):
        try:
            pq.read_metadata(path)
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{path}: expected a Parquet file that can be read ({first_line(error)})"
            ) from error
    try:
        meta = LeRobotDatasetMetadata(root.name, root=root)
    except (CompatibilityError, NotImplementedError) as error:
        raise UserError(f"--dataset.root={root}: expected a LeRobotDataset of version 3") from error
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"--dataset.root={root}: expected readable metadata ({first_line(error)})") from error
    if not meta.total_episodes or not meta.total_frames:
        raise UserError(f"--dataset.root={root}: expected at least one episode")
    return meta


def episode_rows(meta: LeRobotDatasetMetadata) -> list[dict[str, Any]]:
    """The table of episodes: `episode_index`, `length`, `dataset_from_index`, our marks and so on."""
    return [] if meta.episodes is None else meta.episodes.to_list()


def task_names(meta: LeRobotDatasetMetadata) -> list[str]:
    """Instructions in the order of their task index."""
    return [] if meta.tasks is None else meta.tasks.sort_values("task_index").index.tolist()


def data_files(root: Path) -> list[Path]:
    """The Parquet files with the rows, in their order."""
    return sorted(root.glob("data/*/*.parquet"))


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what readers raise about a damaged file into one line."""
    try:
        yield
    except UserError:
        raise
    except (FFmpegError, KeyError, OSError, UnidentifiedImageError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: expected a readable part of the data set ({first_line(error)})") from error


def select_cameras(meta: LeRobotDatasetMetadata, cameras: str | None) -> dict[str, str]:
    """Feature keys of the cameras in a comma list: key that the policy sees -> key in the data set.

    An entry is a name (`corner` or `observation.images.corner`) or `old:new`, which renames the data set's
    camera. Cameras that are not listed are dropped; None selects every colour camera.

    Raises:
        UserError: a name is unknown or given twice, or nothing is left.
    """
    known = [key for key in meta.camera_keys if key not in meta.depth_keys]
    entries = known if cameras is None else [entry.strip() for entry in cameras.split(",") if entry.strip()]
    if not entries:
        raise UserError(f"--dataset.cameras={cameras}: expected at least one colour camera in {meta.root}")
    keys: dict[str, str] = {}
    for entry in entries:
        name, separator, new_name = (part.strip() for part in entry.partition(":"))
        stored = next(
            (key for key in (name, f"{OBS_IMAGES}.{name}", f"{OBS_PREFIX}{name}") if key in known), None
        )
        if stored is None:
            raise UserError(
                f"--dataset.cameras={cameras}: no camera {name}, expected some of {', '.join(known)}"
            )
        if separator and (not new_name or ":" in new_name):
            raise UserError(f"--dataset.cameras={cameras}: {entry}, expected a name or old:new")
        seen = _full_key(new_name) if separator else stored
        if seen in keys or stored in keys.values():
            raise UserError(f"--dataset.cameras={cameras}: {entry}, expected each camera and name once")
        keys[seen] = stored
    return keys


def _full_key(name: str) -> str:
    return name if name.startswith(OBS_PREFIX) else f"{OBS_IMAGES}.{name}"


def fingerprint(root: Path, *, remembered: Path | None = None) -> str:
    """SHA-256 over the names and contents of every file of the data set, as hexadecimal digits.

    remembered: file that keeps the digest of each file with its size and time of change, so that only files
    that changed are read again.
    """
    known: dict[str, list] = {}
    if remembered is not None and remembered.is_file():
        known = json.loads(remembered.read_text())
    entries: dict[str, list] = {}
    for path in sorted(path for part in PARTS for path in (root / part).rglob("*") if path.is_file()):
        name, status = path.relative_to(root).as_posix(), path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = known.get(name, [])
        entries[name] = entry if entry[:2] == stamp else [*stamp, _file_digest(path)]
    if remembered is not None and entries != known:
        partial = remembered.with_suffix(".partial")
        partial.write_text(json.dumps(entries))
        partial.replace(remembered)
    digest = hashlib.sha256()
    for name, entry in entries.items():
        digest.update(f"{name} {entry[2]}\n".encode())
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: Exception) -> str:
    """What another library says about a mistake, without the pages below it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
