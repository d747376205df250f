from pathlib import Path

import numpy as np
import pytest

from embodied.robots.cable import (
    LARGEST_MESSAGE,
    CableError,
    Kind,
    Parser,
    cable_folder,
    message,
    pack_numbers,
    pack_reading,
    socket_path,
    unpack_numbers,
    unpack_reading,
)
from embodied.robots.sensors import Reading

SHAPES = {"front": (2, 3, 3), "wrist": (4, 4, 3)}


def test_a_reading_arrives_as_it_was_sent() -> None:
    rng = np.random.default_rng(0)
    sent = Reading(
        tick=12,
        time=3.25,
        state=rng.normal(size=6),
        pictures={name: rng.integers(0, 256, shape, np.uint8) for name, shape in SHAPES.items()},
        is_holding=True,
        is_success=False,
    )
    found = unpack_reading(pack_reading(sent), 6, SHAPES)
    assert (found.tick, found.time, found.is_holding, found.is_success) == (12, 3.25, True, False)
    np.testing.assert_array_equal(found.state, sent.state)
    for name in SHAPES:
        np.testing.assert_array_equal(found.pictures[name], sent.pictures[name])
    with pytest.raises(CableError, match="expected a reading of"):
        unpack_reading(pack_reading(sent)[:-1], 6, SHAPES)


def test_messages_are_cut_from_a_stream_however_it_arrives() -> None:
    stream = message(Kind.COMMAND, pack_numbers(np.array([1.5, np.nan])), 7) + message(Kind.OBSERVE)
    for size in (1, 5, len(stream)):
        parser, found = Parser(), []
        for start in range(0, len(stream), size):
            found += parser.feed(stream[start : start + size])
        assert [(kind, number) for kind, number, _ in found] == [(Kind.COMMAND, 7), (Kind.OBSERVE, 0)]
        np.testing.assert_array_equal(unpack_numbers(found[0][2], 2), [1.5, np.nan])


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 16,
        b"EM" + (99).to_bytes(2, "little") + bytes(12),
        b"EM\x01\x00" + (LARGEST_MESSAGE + 1).to_bytes(4, "little") + bytes(8),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(CableError, match="expected a message"):
        Parser().feed(data)


def test_a_command_of_another_size_is_refused() -> None:
    with pytest.raises(CableError, match="16 bytes: expected 3 numbers"):
        unpack_numbers(bytes(16), 3)


@pytest.mark.parametrize("port", ["", "../other", "a/b", "x" * 200])
def test_a_port_that_is_no_plain_name_is_refused(port: str) -> None:
    with pytest.raises(ValueError, match=r"--robot\.port="):
        socket_path(port)


def test_only_the_owner_can_open_the_folder_of_the_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cable_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(CableError, match="only you can open"):
        cable_folder()
