"""A series of Parquet files that grows by a few rows at a time and can be read after each of them.

Parquet keeps its table of contents at the end of a file, so that a file that is still being written cannot be
read, and none can be appended to. So the last file of the series is replaced by a longer one each time; once
it is large enough, the next one is begun. What is in a file depends on the rows alone, not on whether they
come from this process or from one before it.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.utils import update_chunk_file_indices

from embodied.data.commit import Commit


class GrowingFiles:
    """Files at `pattern`, LeRobot's with a chunk index and a file index, below a folder."""

    def __init__(
        self,
        root: Path,
        pattern: str,
        files_per_chunk: int,
        *,
        incompressible: tuple[str, ...] = (),
        one_row_group: bool = False,
    ) -> None:
        """Find the files that are there already.

        incompressible: leaves of the schema that are stored as they are; one_row_group: a file has a single
        one; else it has one per append.
        """
        self._root, self._pattern, self._files_per_chunk = root, pattern, files_per_chunk
        self._incompressible, self._one_row_group = incompressible, one_row_group
        self._chunk, self._file = 0, 0
        self._groups: list[pa.Table] = []
        self._compressible: list[str] = []
        found = sorted((root / pattern.split("/chunk-")[0]).glob("*/*.parquet"))
        if found:
            self._chunk = int(found[-1].parent.name.removeprefix("chunk-"))
            self._file = int(found[-1].stem.removeprefix("file-"))
            file = pq.ParquetFile(found[-1])
            self._groups = [file.read_row_group(i) for i in range(file.num_row_groups)]

    @property
    def num_rows(self) -> int:
        """Rows in the last file."""
        return sum(len(group) for group in self._groups)

    @property
    def num_bytes(self) -> int:
        """Size of the last file, 0 before there is one."""
        return (self._root / self._place()).stat().st_size if self._groups else 0

    def next_place(self, *, in_new_file: bool) -> tuple[int, int]:
        """Chunk index and file index of the rows that will be appended next."""
        if in_new_file and self._groups:
            return update_chunk_file_indices(self._chunk, self._file, self._files_per_chunk)
        return self._chunk, self._file

    def append(self, commit: Commit, rows: pa.Table, *, in_new_file: bool) -> tuple[int, int]:
        """Append rows with the same columns as those before; returns where they will stand."""
        schema = self._groups[0].schema if self._groups else _schema_as_read(rows)
        self._chunk, self._file = self.next_place(in_new_file=in_new_file)
        groups = [*([] if in_new_file else self._groups), rows.cast(schema)]
        self._groups = [pa.concat_tables(groups).combine_chunks()] if self._one_row_group else groups
        commit.add(self._place(), self._encode())
        return self._chunk, self._file

    def _place(self) -> str:
        return self._pattern.format(chunk_index=self._chunk, file_index=self._file)

    def _encode(self) -> pa.Buffer:
        """The last file."""
        schema = self._groups[0].schema
        if not self._compressible:
            leaves = pq.read_metadata(_encode_nothing(self._groups[0])).schema
            names = [leaves.column(i).path for i in range(len(leaves))]
            self._compressible = [name for name in names if name not in self._incompressible]
        # To look for equal pictures, and for patterns in them, would take most of the time.
        options: dict[str, Any] = {
            "compression": dict.fromkeys(self._compressible, "snappy"),
            "use_dictionary": self._compressible,
        }
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, **options) as writer:
            for group in self._groups:
                writer.write_table(group)
        return sink.getvalue()


def _schema_as_read(rows: pa.Table) -> pa.Schema:
    """The schema after a file: inner fields get other names, and these stand in the next file."""
    return pq.ParquetFile(_encode_nothing(rows)).schema_arrow


def _encode_nothing(rows: pa.Table) -> pa.BufferReader:
    sink = pa.BufferOutputStream()
    pq.write_table(rows.slice(0, 0), sink)
    return pa.BufferReader(sink.getvalue())
