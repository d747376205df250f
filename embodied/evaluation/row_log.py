"""Rows appended to a file of JSON lines, each on the disk before the next: what a crash leaves is whole."""

import json
import os
from pathlib import Path
from typing import Any

from embodied.errors import UserError


class RowLog:
    """The rows of a file, and a way to append to them.

    A last line that a crash has torn is dropped from the file when the first row is appended.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there. Raises UserError naming a damaged line before the last."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._torn_from: int | None = None
        whole_bytes = 0
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        for number, line in enumerate(lines, start=1):
            row = _parse(line)
            if row is None and number < len(lines):
                raise UserError(f"{path}: line {number} is damaged: expected a JSON object")
            if row is None:
                self._torn_from = whole_bytes
            else:
                self.rows.append(row)
                whole_bytes += len(line)

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; it is on the disk when this returns."""
        line = json.dumps(row).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if self._torn_from is not None:
                file.truncate(self._torn_from)
                self._torn_from = None
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The line's object; None unless it is whole."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and line.endswith(b"\n") else None
