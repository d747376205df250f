"""Several files of one folder replaced together: a crash loses no more than the commit under way.

New contents go to a hidden folder and are flushed to the disk; then that folder is renamed, and from this
instant on they count. Each file is moved to its place afterwards, in the order in which it was added, and
`recover` finishes what a crash has left: it completes a commit that counts and deletes one that does not.
Readers that come between two moves see some files older than others, so files are added in such an order that
this does no harm.
"""

import json
import os
import shutil
from collections.abc import Buffer, Iterator
from contextlib import contextmanager
from pathlib import Path

PENDING = ".pending"
COMMITTED = ".committed"
PLACES = "places.json"


class Commit:
    """New contents of files, named by their places relative to the folder."""

    def __init__(self, folder: Path) -> None:
        """folder: where the contents wait; has to exist."""
        self._folder = folder
        self._places: list[str] = []

    def reserve(self, place: str) -> Path:
        """Path to which to write the new content of the file at `place`."""
        waiting = _waiting_name(len(self._places), place)
        self._places.append(place)
        return self._folder / waiting

    def add(self, place: str, content: Buffer) -> None:
        """Set the new content of the file at `place`."""
        self.reserve(place).write_bytes(content)

    def seal(self) -> None:
        """Flush everything to the disk, with the list of where it belongs."""
        (self._folder / PLACES).write_text(json.dumps(self._places))
        for path in sorted(self._folder.iterdir()):
            flush(path)
        flush(self._folder)


@contextmanager
def new_commit(root: Path) -> Iterator[Commit]:
    """Replace the files added inside the block, once it ends well; an exception leaves `root` as it was."""
    recover(root)
    pending = root / PENDING
    pending.mkdir()
    try:
        commit = Commit(pending)
        yield commit
        commit.seal()
    except BaseException:
        shutil.rmtree(pending)
        raise
    pending.rename(root / COMMITTED)
    flush(root)
    recover(root)


def is_unfinished(root: Path) -> bool:
    """Whether a crash has left a commit in `root`."""
    return (root / PENDING).exists() or (root / COMMITTED).exists()


def recover(root: Path) -> None:
    """Finish the commit that a crash has left in `root`, or delete it if it does not count yet."""
    pending, committed = root / PENDING, root / COMMITTED
    if committed.exists():
        # A crash during an earlier recovery may have left what that one was about to delete.
        if pending.exists():
            shutil.rmtree(pending)
        _move_to_places(committed, root)
        committed.rename(pending)
    if pending.exists():
        shutil.rmtree(pending)


def _move_to_places(committed: Path, root: Path) -> None:
    changed: set[Path] = set()
    for number, place in enumerate(json.loads((committed / PLACES).read_text())):
        waiting, target = committed / _waiting_name(number, place), root / place
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            changed.update(target.relative_to(root).parents)
        # Absent after a crash that came behind its move.
        if waiting.exists():
            os.replace(waiting, target)
        changed.add(target.parent.relative_to(root))
    for folder in changed:
        flush(root / folder)


def _waiting_name(number: int, place: str) -> str:
    """Encoders tell a film's format by the end of its name."""
    return f"{number}{Path(place).suffix}"


def flush(path: Path) -> None:
    """Wait until a file or the list of a folder's entries is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
