"""Folders whose every file is listed with its hash: written whole or not at all, verified when read.

A folder is filled under a temporary name, `MANIFEST.json` (SHA-256 and size of every file, and SHA-256 of
that list) is written last, everything is flushed to the disk, and the folder is renamed. Imports nothing but
Python's own library, so that an exported policy is verified without the training dependencies.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodied.data.commit import flush
from embodied.errors import UserError

MANIFEST = "MANIFEST.json"
TEMPORARY_PREFIX = ".tmp-"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys, whole or not at all."""
    partial = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
    try:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file; UserError naming it if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _manifest_text(files: dict[str, dict[str, Any]]) -> str:
    """The one way to write a list of files: any other text, even an equal one, is damage."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return json.dumps({"files": files, "sha256": digest}, indent=1)


def _content(folder: Path) -> list[Path]:
    """Every file that a manifest lists: all but itself and the hidden ones.

    File managers and the hub's client leave hidden files, which no loader reads.
    """
    found = {path: path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    hidden = {path for path, name in found.items() if any(part.startswith(".") for part in name.parts)}
    return sorted(found.keys() - hidden - {folder / MANIFEST})


def write_manifest(folder: Path) -> None:
    """Record SHA-256 and size of every file below `folder` in its `MANIFEST.json`."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": file_sha256(path), "size": path.stat().st_size}
        for path in _content(folder)
    }
    (folder / MANIFEST).write_text(_manifest_text(files), encoding="utf-8")


def _listed_files(manifest: Path) -> dict[str, dict[str, Any]]:
    """The manifest's list of files, after checking its every byte against the list's own hash."""
    match read_json(manifest):
        case {"files": dict(files)} if manifest.read_bytes() == _manifest_text(files).encode():
            return files
    raise UserError(f"{manifest}: is damaged: its list of files does not match its own SHA-256")


def verify_files(folder: Path, what: str) -> None:
    """Check every file of a folder against its manifest, and that there is no other file.

    what: the folder is, for the message. Raises UserError naming the first file that is missing, truncated,
    altered or not listed, the manifest included.
    """
    files = _listed_files(folder / MANIFEST)
    for name, expected in files.items():
        _verify_file(folder / name, expected, what)
    for path in _content(folder):
        if path.relative_to(folder).as_posix() not in files:
            raise UserError(f"{path}: is not listed in {MANIFEST}: expected no file that was added later")


def _verify_file(path: Path, expected: dict[str, Any], what: str) -> None:
    if not path.is_file():
        raise UserError(f"{path}: is missing, but {MANIFEST} lists it: the {what} is incomplete")
    size = path.stat().st_size
    if size != expected["size"]:
        raise UserError(f"{path}: has {size} bytes, expected {expected['size']}: the {what} is damaged")
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): the {what} is damaged") from error
    if digest != expected["sha256"]:
        raise UserError(f"{path}: its SHA-256 differs from {MANIFEST}: the {what} is damaged")


def _flush_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `final` at once, with its manifest, when the block ends well.

    If the block fails, nothing is left. `final` must not exist yet.
    """
    folder = final.with_name(f"{TEMPORARY_PREFIX}{final.name}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
        write_manifest(folder)
        _flush_tree(folder)
        folder.rename(final)
        flush(final.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
