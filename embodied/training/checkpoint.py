"""Checkpoint folders: written whole or not at all, verified when read, found by several names.

A run keeps `<output_dir>/checkpoints/<step>/` and a symbolic link `last`. A folder is filled under a
temporary name, `MANIFEST.json` (SHA-256 and size of every file, and SHA-256 of that list) is written last,
everything is flushed to disk, the folder is renamed, and only then the link moves: a crash at any moment
leaves the previous state in place.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from embodied.errors import UserError

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
CHECKPOINTS = "checkpoints"
LAST = "last"
TEMPORARY_PREFIX = ".tmp-"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; UserError naming it if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


# --- manifest -------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_list(files: dict[str, dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path) -> None:
    """Record SHA-256 and size of every file below `folder` in its `MANIFEST.json`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in paths
    }
    manifest = {"files": files, "sha256": _digest_of_list(files)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _listed_files(manifest: Path) -> dict[str, dict[str, Any]]:
    """The manifest's list of files, after checking the list against its own hash."""
    content = read_json(manifest)
    match content:
        case {"files": dict(files), "sha256": str(digest), **rest} if not rest:
            if digest == _digest_of_list(files):
                return files
    raise UserError(f"{manifest}: is damaged: its list of files does not match its own SHA-256")


def verify_manifest(folder: Path) -> bool:
    """Check every file of a checkpoint against its manifest.

    Returns False, after one warning, if the folder has no manifest (LeRobot's own trainer writes none).
    Raises UserError naming the first file that is missing, truncated or altered, the manifest included.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        logger.warning("%s: no %s, so its files cannot be verified", folder, MANIFEST)
        return False
    for name, expected in _listed_files(manifest).items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: is missing, but {MANIFEST} lists it: the checkpoint is incomplete")
        size = path.stat().st_size
        if size != expected["size"]:
            raise UserError(
                f"{path}: has {size} bytes, expected {expected['size']}: the checkpoint is damaged"
            )
        if file_sha256(path) != expected["sha256"]:
            raise UserError(f"{path}: its SHA-256 differs from {MANIFEST}: the checkpoint is damaged")
    return True


# --- finding --------------------------------------------------------------------------------------


def saved_checkpoints(output_dir: Path) -> list[Path]:
    """A run's complete checkpoint folders, oldest first."""
    folders = (output_dir / CHECKPOINTS).glob("[0-9]*")
    return sorted((folder for folder in folders if folder.is_dir()), key=lambda folder: int(folder.name))


def last_checkpoint(output_dir: Path) -> Path | None:
    """The folder that the link `last` names, or the newest one if a crash came before the first link."""
    pointer = output_dir / CHECKPOINTS / LAST
    if pointer.is_dir():
        return _linked(pointer)
    saved = saved_checkpoints(output_dir)
    return saved[-1] if saved else None


def _linked(folder: Path) -> Path:
    """What a link to a sibling names, written as relative or absolute as the link itself."""
    return folder.parent / folder.resolve().name if folder.is_symlink() else folder


def resolve_checkpoint(path: Path) -> Path:
    """The folder with a model's `config.json` and `model.safetensors`.

    `path` is that folder itself, one of LeRobot's step folders (with `pretrained_model` inside), or a run's
    output folder, ours or LeRobot's, whose last checkpoint is taken. Raises UserError if it is none of them.
    """
    newest = last_checkpoint(path)
    candidates = [path, path / "pretrained_model"]
    if newest is not None:
        candidates += [newest, newest / "pretrained_model"]
    for candidate in candidates:
        if (candidate / MANIFEST).is_file() or (candidate / "config.json").is_file():
            return _linked(candidate)
    problem = "is not a checkpoint" if path.exists() else "does not exist"
    raise UserError(
        f"{path}: {problem}: expected a folder with config.json and model.safetensors, or a run's output_dir"
    )


def load_checkpoint_folder(path: Path) -> Path:
    """Find the checkpoint that `path` means and verify all of its files before anything is read from it."""
    folder = resolve_checkpoint(path)
    verify_manifest(folder)
    return folder


# --- writing --------------------------------------------------------------------------------------


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _flush(path)
    _flush(folder)


def _remove(folder: Path) -> None:
    """Delete a folder under a temporary name, so that a crash in between leaves no half checkpoint."""
    doomed = folder.with_name(f"{TEMPORARY_PREFIX}removed-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _point_last_to(folder: Path) -> None:
    pointer = folder.with_name(f"{TEMPORARY_PREFIX}{LAST}")
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(folder.name, target_is_directory=True)
    os.replace(pointer, folder.with_name(LAST))
    _flush(folder.parent)


def recover(output_dir: Path) -> None:
    """Undo what a killed writer left: delete unfinished folders, let `last` name the newest finished one."""
    for path in (output_dir / CHECKPOINTS).glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    saved = saved_checkpoints(output_dir)
    if saved and last_checkpoint(output_dir) != saved[-1]:
        _point_last_to(saved[-1])


def _disk_is_full(error: OSError | SafetensorError) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return "StorageFull" in str(error) or "QuotaExceeded" in str(error)


@contextmanager
def new_checkpoint(output_dir: Path, step: int) -> Iterator[Path]:
    """Yield an empty folder to fill; publish it as `checkpoints/<step>` and `last` when the block ends well.

    If the block fails nothing is published and the previous `last` stays. A full disk, or a checkpoint of
    this step that is there already, raises UserError.
    """
    final = output_dir / CHECKPOINTS / f"{step:06d}"
    if final.exists():
        raise UserError(f"{final}: exists already: expected a step that has not been saved")
    folder = final.with_name(f"{TEMPORARY_PREFIX}{final.name}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
        write_manifest(folder)
        _flush_tree(folder)
        folder.rename(final)
        _flush(final.parent)
        _point_last_to(final)
    except (OSError, SafetensorError) as error:
        if not _disk_is_full(error):
            raise
        raise UserError(
            f"{final}: no space left on the device to write it; the previous checkpoint, if any, is untouched"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep_newest(output_dir: Path, count: int) -> None:
    """Delete all but the `count` newest checkpoints; the one that `last` names always stays."""
    protected = last_checkpoint(output_dir)
    for folder in saved_checkpoints(output_dir)[:-count]:
        if folder != protected:
            _remove(folder)
