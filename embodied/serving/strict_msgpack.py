"""msgpack read with suspicion: nothing is allocated on the word of a length, nothing deep is followed.

The format: https://github.com/msgpack/msgpack/blob/master/spec.md. Extension types, keys that repeat and
bytes behind the value are refused. A buffer is a view of what arrived, so a frame never costs more than its
own size and a constant for each of its values, whose number is bounded.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

Value = bool | int | float | str | memoryview | list | dict | None


class WireError(ValueError):
    """A frame that cannot be understood. The message is one short line."""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How much one frame may hold.

    depth: of nested lists and maps; entries: of one list or map; values: in all; text: bytes of a string.
    Buffers are bounded by the frame, and the frame by whoever receives it.
    """

    depth: int = 6
    entries: int = 256
    values: int = 4096
    text: int = 4096


_NUMBERS: dict[int, struct.Struct] = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANTS: dict[int, bool | None] = {0xC0: None, 0xC2: False, 0xC3: True}


def unpack(data: bytes | memoryview, caps: Caps) -> Value:
    """The one value that `data` holds; buffers are read-only views of it.

    Raises WireError for anything that is not exactly one value within `caps`.
    """
    reader = _Reader(memoryview(data).toreadonly(), caps)
    value = reader.value(0)
    if reader.rest():
        raise WireError(f"{reader.rest()} bytes behind the value: expected none")
    return value


class _Reader:
    """Reads from the front; counts the values, so that many small ones cost no more than `caps` allows."""

    def __init__(self, data: memoryview, caps: Caps) -> None:
        self._data, self._at, self._caps, self._left = data, 0, caps, caps.values

    def rest(self) -> int:
        return len(self._data) - self._at

    def value(self, depth: int) -> Value:
        if self._left == 0:
            raise WireError(f"more than {self._caps.values} values")
        self._left -= 1
        code = self._take(1)[0]
        if code <= 0x7F:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            number = _NUMBERS[code]
            return number.unpack(self._take(number.size))[0]
        read, length = self._sized(code)
        return read(length, depth)

    def _sized(self, code: int) -> tuple[Callable[[int, int], Value], int]:
        """How to read a string, buffer, list or map, and its length."""
        if code <= 0x8F:
            return self._map, code & 0x0F
        if code <= 0x9F:
            return self._list, code & 0x0F
        if code <= 0xBF:
            return self._text, code & 0x1F
        for first, width, read in (
            (0xC4, 1, self._buffer),
            (0xD9, 1, self._text),
            (0xDC, 2, self._list),
            (0xDE, 2, self._map),
        ):
            steps = code - first
            if steps >= 0 and width << steps <= 4:
                return read, int.from_bytes(self._take(width << steps), "big")
        raise WireError(f"type 0x{code:02x}: expected no extension type")

    def _take(self, length: int) -> memoryview:
        if length > self.rest():
            raise WireError(f"{length} bytes announced, {self.rest()} left")
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken

    def _buffer(self, length: int, depth: int) -> memoryview:
        return self._take(length)

    def _text(self, length: int, depth: int) -> str:
        if length > self._caps.text:
            raise WireError(f"text of {length} bytes: expected at most {self._caps.text}")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise WireError("text that is no UTF-8") from error

    def _list(self, length: int, depth: int) -> list[Value]:
        self._enter(length, depth)
        return [self.value(depth + 1) for _ in range(length)]

    def _map(self, length: int, depth: int) -> dict[str | bytes, Value]:
        self._enter(length, depth)
        found: dict[str | bytes, Value] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if isinstance(key, memoryview):
                if len(key) > self._caps.text:
                    raise WireError(f"key of {len(key)} bytes: expected at most {self._caps.text}")
                key = bytes(key)
            if not isinstance(key, str | bytes):
                raise WireError(f"key of type {type(key).__name__}: expected text")
            if key in found:
                raise WireError("a key that comes twice")
            found[key] = self.value(depth + 1)
        return found

    def _enter(self, length: int, depth: int) -> None:
        if depth >= self._caps.depth:
            raise WireError(f"deeper than {self._caps.depth} levels")
        if length > self._caps.entries:
            raise WireError(f"{length} entries: expected at most {self._caps.entries}")
