"""The cable between a client and a robot's process: a local socket with messages of a fixed layout.

A message is a head of 16 bytes and a payload: kind, length and, in a command, its number. Numbers are
little-endian; a state or command is an array of float64, a picture its bytes. The socket lies in a folder
that only its owner can open. S, A sizes of state and action; H, W picture size.
"""

import os
import stat
import struct
import tempfile
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import numpy as np

from embodied.robots.sensors import Reading

_HEAD = struct.Struct("<2sHIQ")
_MAGIC = b"EM"
_READING = struct.Struct("<QdBB6x")
LARGEST_MESSAGE = 2**26
LONGEST_PATH = 100
"""Bytes of a socket's path: systems allow little more."""


class Kind(IntEnum):
    """What a message says. A client asks, the robot answers each but COMMAND."""

    HELLO = 1  # UTF-8: role
    OBSERVE = 2
    COMMAND = 3  # (A,) float64
    PRIVILEGED = 4
    RESET = 5  # number: seed
    INJECT = 6  # JSON: fields of Faults
    SHUT_DOWN = 7
    WELCOME = 16  # JSON: what the robot is
    READING = 17
    STATE = 18  # (P,) float64
    DONE = 19
    REFUSED = 20  # UTF-8: why


class CableError(ConnectionError):
    """The other end sent what is no message, or is gone."""


class Parser:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        """Begin with an empty stream."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """Take bytes; return the messages that are complete: kind, number and payload.

        Raises:
            CableError: bytes that are no message.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEAD.size:
            magic, kind, length, number = _HEAD.unpack_from(self._buffer)
            if magic != _MAGIC or kind not in Kind or length > LARGEST_MESSAGE:
                raise CableError("expected a message of a simulated robot")
            if len(self._buffer) < _HEAD.size + length:
                break
            payload = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
            messages.append((Kind(kind), number, payload))
            del self._buffer[: _HEAD.size + length]
        return messages


def message(kind: Kind, payload: bytes = b"", number: int = 0) -> bytes:
    """Return the bytes of a message."""
    return _HEAD.pack(_MAGIC, kind, len(payload), number) + payload


def pack_numbers(numbers: np.ndarray) -> bytes:
    """Return the bytes of an array, (N,)."""
    return np.ascontiguousarray(numbers, "<f8").tobytes()


def unpack_numbers(payload: bytes, size: int) -> np.ndarray:
    """Return `size` numbers, (size,) float64. CableError unless the payload holds so many."""
    if len(payload) != 8 * size:
        raise CableError(f"{len(payload)} bytes: expected {size} numbers")
    return np.frombuffer(payload, "<f8").copy()


def pack_reading(reading: Reading) -> bytes:
    """Return the bytes of a reading: its head, the state, the pictures in their order."""
    head = _READING.pack(reading.tick, reading.time, reading.is_holding, reading.is_success)
    return b"".join([head, pack_numbers(reading.state), *(p.tobytes() for p in reading.pictures.values())])


def unpack_reading(payload: bytes, size: int, shapes: Mapping[str, tuple[int, int, int]]) -> Reading:
    """Return the reading of a robot with a state of `size` numbers and pictures (H, W, 3) of these shapes.

    Raises:
        CableError: a payload of another size.
    """
    lengths = [int(np.prod(shape)) for shape in shapes.values()]
    first = _READING.size + 8 * size
    if len(payload) != first + sum(lengths):
        raise CableError(f"{len(payload)} bytes: expected a reading of {first + sum(lengths)}")
    tick, time, is_holding, is_success = _READING.unpack_from(payload)
    pictures, start = {}, first
    for (name, shape), length in zip(shapes.items(), lengths, strict=True):
        pictures[name] = np.frombuffer(payload, np.uint8, length, start).reshape(shape).copy()
        start += length
    return Reading(
        tick=tick,
        time=time,
        state=unpack_numbers(payload[_READING.size : first], size),
        pictures=pictures,
        is_holding=bool(is_holding),
        is_success=bool(is_success),
    )


def cable_folder() -> Path:
    """Return this user's folder of sockets and logs, which nobody else can open.

    Raises:
        CableError: somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"embodied-robots-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise CableError(f"{folder}: expected a folder that only you can open")
    return folder


def socket_path(port: str) -> Path:
    """Return where a robot of this port listens.

    Raises:
        ValueError: a port that is no plain name.
    """
    path = cable_folder() / f"{port}.sock"
    if not port or not port.replace("-", "").replace("_", "").isalnum() or len(bytes(path)) > LONGEST_PATH:
        raise ValueError(f"--robot.port={port}: expected a short name of letters, digits, - and _")
    return path
