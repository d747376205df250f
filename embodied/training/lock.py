"""One process at a time trains into an output folder: a lock on a file in it, which ends with the process.

The operating system holds the lock (`flock`), so that a process that was killed leaves none behind. The file
itself stays and means nothing; it holds the number of the process that took the lock last.
"""

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Self

from embodied.errors import UserError

logger = logging.getLogger(__name__)

LOCK = ".lock"
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class OutputLock:
    """Context that gives the lock back when it ends, if it was taken."""

    def __init__(self, output_dir: Path) -> None:
        """Nothing is locked yet."""
        self._output_dir = output_dir
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock; the folder must exist. UserError if another process trains into it."""
        descriptor = os.open(self._output_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UserError(
                f"--output_dir={self._output_dir}: process {holder} is training into it: expected another "
                "folder, or that process to have ended"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS_HERE:
                os.close(descriptor)
                raise
            logger.warning("%s: its file system has no locks; do not train into it twice", self._output_dir)
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())

    def __enter__(self) -> Self:
        """Wait for `acquire`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
