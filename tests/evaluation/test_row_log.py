"""Rows that survive a crash, and nothing else."""

from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.evaluation.row_log import RowLog


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    log = RowLog(tmp_path / "new" / "rows.jsonl")
    for number in range(3):
        log.append({"number": number})
    assert RowLog(log.path).rows == log.rows == [{"number": number} for number in range(3)]


@pytest.mark.parametrize("torn", [b'{"number": 1', b'{"number": 1}', b"\x00\x00\n"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"number": 0}\n' + torn)
    log = RowLog(path)
    assert log.rows == [{"number": 0}]
    log.append({"number": 2})
    assert path.read_text() == '{"number": 0}\n{"number": 2}\n'


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b"')
    RowLog(path)
    assert path.read_bytes() == b'{"a": 1}\n{"b"'


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b"\n{"c": 3}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        RowLog(path)
