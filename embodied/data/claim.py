"""A folder that one collection fills: which command began it, one process at a time, nobody else's files."""

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import draccus

from embodied.config import CollectConfig
from embodied.data.commit import flush
from embodied.errors import UserError

NOTE = "collection.json"
PARTIAL_NOTE = f".{NOTE}.partial"

FOLLOWING = ("features", "features_map")
"""Of an environment's settings, those that follow from the others."""

FREE_FLAGS = ("workers", "json", *(f"env.{name}" for name in FOLLOWING))
"""They change no episode."""


@contextmanager
def claim(config: CollectConfig) -> Iterator[None]:
    """Hold the folder `config.dataset.root`; a new one gets a note of the flags.

    If the block fails before it has put anything into a new folder, that is left as it was.

    Raises:
        UserError: the folder is in use, or the collection in it began with other flags.
    """
    root = config.dataset.root
    if root.exists() and not root.is_dir():
        raise UserError(f"--dataset.root={root}: expected a folder that is new or empty")
    was_there = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UserError(
            f"--dataset.root={root}: expected a folder that can be made: {error.strerror}"
        ) from error
    if not os.access(root, os.W_OK):
        raise UserError(f"--dataset.root={root}: expected a folder that can be written")
    with _locked(root):
        note = root / NOTE
        is_new = not note.is_file()
        if is_new:
            _write_note(note, config)
        else:
            _require_same(config, json.loads(note.read_text()))
        try:
            yield
        except BaseException:
            if is_new and {path.name for path in root.iterdir()} == {NOTE}:
                note.unlink()
                if not was_there:
                    root.rmdir()
            raise


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """The system gives the lock back when the process ends, in whatever way."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UserError(f"--dataset.root={root}: expected a folder that no other process fills") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _write_note(note: Path, config: CollectConfig) -> None:
    root, partial = note.parent, note.with_name(PARTIAL_NOTE)
    if {path.name for path in root.iterdir()} - {PARTIAL_NOTE}:
        raise UserError(f"--dataset.root={root}: expected a folder that is new or empty")
    settings = draccus.encode(dataclasses.replace(config, json=None, workers=None))
    for name in FOLLOWING:
        del settings["env"][name]
    partial.write_text(json.dumps(settings, indent=2) + "\n")
    flush(partial)
    partial.rename(note)
    flush(root)
    flush(root.parent)


def _require_same(config: CollectConfig, begun: dict[str, Any]) -> None:
    """Compare every flag with those in the note."""
    # Through JSON, as the note went.
    asked = _flags(json.loads(json.dumps(draccus.encode(config))))
    noted = _flags(begun)
    for name in sorted(asked.keys() | noted.keys()):
        if asked.get(name) != noted.get(name):
            raise UserError(
                f"--{name}={asked.get(name)}: expected {noted.get(name)}, with which the collection in "
                f"{config.dataset.root} began, or another --dataset.root"
            )


def _flags(settings: dict[str, Any], group: str = "") -> dict[str, Any]:
    """Flag names and values: {"env.task": "reach"} for {"env": {"task": "reach"}}."""
    flags: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{group}{key}"
        # A data set may be moved, and how it will be used changes no episode.
        if name in FREE_FLAGS or (group == "dataset." and key != "repo_id"):
            continue
        flags |= _flags(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flags
