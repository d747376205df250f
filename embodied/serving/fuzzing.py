"""Frames that no honest peer sends, in both dialects: written by hand, and honest ones mutated.

Whatever arrives, a decoder returns a message or raises WireError, and keeps nothing.
"""

import random
import resource
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from embodied.errors import UserError
from embodied.serving import openpi, wire
from embodied.serving.runner import Decision, Request, check_request
from embodied.serving.specification import Specification
from embodied.serving.strict_msgpack import WireError
from embodied.serving.wire import Answer, Ask, Failure, Hello, Offer, pack

HUGE = b"\xff\xff\xff\xff"
MISFITS: dict[str, bytes] = {
    "nothing": b"",
    "nested lists": b"\x91" * 10_000,
    "nested maps": b"\x81\xa1a" * 10_000,
    "nested keys": b"\x81" * 10_000,
    "4 GiB list": b"\xdd" + HUGE,
    "4 GiB map": b"\xdf" + HUGE,
    "4 GiB text": b"\xdb" + HUGE,
    "4 GiB buffer": b"\xc6" + HUGE,
    "many nils": b"\xdc\xff\xff" + b"\xc0" * 0xFFFF,
    "many empty maps": b"\x9f" + (b"\x9f" + b"\x80" * 15) * 15,
    "extension of 1 byte": b"\x81\xa1a\xd4\x00\x00",
    "extension of 4 GiB": b"\x81\xa1a\xc9" + HUGE + b"\x00",
    "timestamp": b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",
    "unused code": b"\x81\xa1a\xc1",
    "broken text": b"\x81\xa1\xff\xc0",
    "key twice": b"\x82\xa1a\xc0\xa1a\xc0",
    "number as key": b"\x81\x01\xc0",
    "list as key": b"\x81\x90\xc0",
    "bytes behind": b"\x80\x80",
    "a number": b"\x07",
    "a list": b"\x90",
}
"""msgpack that is broken or hostile as the header of `vla.v1` and as a frame of openpi alike."""

ARRAYS: dict[str, tuple[Any, Any, int]] = {
    "object dtype": ("|O", [1], 8),
    "void dtype": ("|V8", [1], 8),
    "complex dtype": ("<c8", [1], 8),
    "dtype of bytes": (b"<f4", [1], 4),
    "structured dtype": ("f4,O", [1], 12),
    "big-endian dtype": (">f4", [1], 4),
    "dtype that is no text": (4, [1], 4),
    "text dtype": ("<U4", [1], 16),
    "negative side": ("<f4", [-1], 4),
    "two negative sides": ("<f4", [-1, -1], 4),
    "overflowing shape": ("<f4", [2**31 - 1, 2**31 - 1, 2**31 - 1], 4),
    "64-bit overflow to 0": ("<f4", [2**31, 2**31, 4], 0),
    "rank 6": ("<f4", [1] * 6, 4),
    "too short": ("<f4", [3], 8),
    "too long": ("<f4", [1], 8),
    "side of 1.0": ("<f4", [1.0], 4),
    "side of true": ("<f4", [True], 4),
    "shape that is a number": ("<f4", 1, 4),
}
"""Arrays that lie: dtype, shape and bytes."""


def _frame(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<I", len(header)) + header + body


def asking(**changes: Any) -> bytes:
    """The frame of an `Ask` whose header says something else, or lacks what is None."""
    header = {"session": "s", "sequence": 1, "age": 0.0, "deadline": 0.1, "task": "", "delay": 0}
    header |= {"type": "ask", "reset": False, "arrays": {"state": ["<f4", [1]]}, **changes}
    return _frame(pack({key: value for key, value in header.items() if value is not ...}), b"\0" * 4)


FIELDS: dict[str, dict[str, Any]] = {
    "unknown type": {"type": "exec"},
    "type that is a list": {"type": ["ask"]},
    "no type": {"type": ...},
    "no session": {"session": ...},
    "one field more": {"__reduce__": "os.system"},
    "array more": {"arrays": {"state": ["<f4", [1]], "__class__": ["<f4", [0]]}},
    "no state": {"arrays": {"image/a": ["<f4", [1]]}},
    "no arrays": {"arrays": ...},
    "too many arrays": {"arrays": {f"image/{i}": ["<f4", [0]] for i in range(64)}},
    "integer state": {"arrays": {"state": ["<i4", [1]]}},
    "sequence below 0": {"sequence": -1},
    "sequence of 2**60": {"sequence": 2**60},
    "sequence of true": {"sequence": True},
    "age of NaN": {"age": float("nan")},
    "endless deadline": {"deadline": float("inf")},
    "age below 0": {"age": -1.0},
    "long session": {"session": "s" * 65},
    "long task": {"task": "t" * 5000},
    "reset of 1": {"reset": 1},
    "delay of 1.0": {"delay": 1.0},
}


def hostile_wire() -> dict[str, bytes]:
    """Frames by name, each of which `vla.v1` has to refuse."""
    frames = {name: _frame(header) for name, header in MISFITS.items()}
    frames |= {name: asking(**changes) for name, changes in FIELDS.items()}
    for name, (dtype, shape, size) in ARRAYS.items():
        header = pack({"type": "answer", "arrays": {"actions": [dtype, shape]}, "seconds": 0.0})
        frames[name] = _frame(header, b"\0" * size)
    return frames | {
        "length only": b"\0\0",
        "4 GiB header": HUGE + b"\x80",
        "header beyond the frame": struct.pack("<I", 9) + b"\x80",
        "header of 64 KiB and 1": _frame(pack({"type": "a" * (1 << 16)})),
    }


def hostile_openpi() -> dict[str, bytes]:
    """Frames by name, each of which openpi's dialect has to refuse."""

    def array(**changes: Any) -> bytes:
        entries = {"__ndarray__": True, "data": b"\0" * 4, "dtype": "<f4", "shape": [1], **changes}
        return pack({"state": {key.encode(): value for key, value in entries.items() if value is not ...}})

    frames = dict(MISFITS)
    for name, (dtype, shape, size) in ARRAYS.items():
        frames[name] = array(dtype=dtype, shape=shape, data=b"\0" * size)
    return frames | {
        "pickle in an object array": array(dtype="|O", data=b"cos\nsystem\n(S'true'\ntR.", shape=[1]),
        "marked by 1": array(__ndarray__=1),
        "one entry more": array(allow_pickle=True),
        "no shape": array(shape=...),
        "data of text": array(data="0000"),
        "data of a list": array(data=[0, 0, 0, 0]),
        "array in an array": array(data={b"__ndarray__": True}),
        "number of text": pack({"state": {b"__npgeneric__": True, b"data": "0", b"dtype": "<f4"}}),
        "number of objects": pack({"state": {b"__npgeneric__": True, b"data": 0, b"dtype": "|O"}}),
        "bytes alone": pack({"state": b"\0" * 4}),
        "key of bytes": pack({b"state": 0}),
    }


# --- honest frames, mutated -----------------------------------------------------------------------


def honest_request(specification: Specification, generator: np.random.Generator) -> Request:
    """A request that fits, with a prefix if the policy continues one."""
    prefix = generator.normal(size=(2, len(specification.action.names))).astype(np.float32)
    return Request(
        session="session",
        images={
            name: generator.integers(0, 256, size, np.uint8) for name, size in specification.cameras.items()
        },
        state=generator.normal(size=len(specification.state.names)).astype(np.float32),
        task="pick up the block",
        prefix=prefix if specification.rtc else None,
        delay=1 if specification.rtc else 0,
    )


def honest_wire(specification: Specification, seed: int = 0) -> list[bytes]:
    """One frame of every type of message."""
    generator = np.random.default_rng(seed)
    request = honest_request(specification, generator)
    actions = generator.normal(size=(specification.chunk_size, len(specification.action.names)))
    decision = Decision(actions=actions.astype(np.float32), seconds=0.01)
    messages = [
        Hello(mode="reactive", expects=specification),
        Offer(session="session", mode="reactive", specification=specification),
        Ask(sequence=3, age=0.01, deadline=0.2, request=request),
        Answer(sequence=3, queued=0.001, decision=decision),
        Failure(code="expired", reason="waited too long", sequence=3),
    ]
    return [wire.encode(message) for message in messages]


def honest_openpi(specification: Specification, seed: int = 0) -> list[bytes]:
    """Two observations, named flatly and nested."""
    request = honest_request(specification, np.random.default_rng(seed))
    flat = {f"observation/images/{name}": image for name, image in request.images.items()}
    nested = {"images": dict(request.images), "state": request.state.astype(np.float64)}
    frames = ({**flat, "observation/state": request.state, "prompt": "go"}, {**nested, "task": "go"})
    return [openpi.encode(frame) for frame in frames]


INTERESTING = (b"\xdd" + HUGE, b"\xdf" + HUGE, b"\xc6" + HUGE, b"\xdb" + HUGE, b"\xc9" + HUGE, b"\x91" * 64)
WORDS = (b"|O", b"<f4", b"<f8", b"|u1", b"<i8", b"state", b"__ndarray__", b"\xff", b"\xc0", b"\xc3", b"\xcb")


def mutated(frame: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """The frame with one to four things done to it: bits, bytes, parts, lengths, other frames' parts."""
    data = bytearray(frame)
    for _ in range(draw.randint(1, 4)):
        at, end = sorted((_position(data, draw), _position(data, draw)))
        match draw.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            case 1 if data:
                data[at % len(data)] = draw.randrange(256)
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end]
            case 4:
                data[at : at + 5] = draw.choice(INTERESTING)
            case 5:
                data[at:at] = draw.choice(WORDS)
            case _:
                other = draw.choice(others)
                data[at:end] = other[at:end]
    return bytes(data)


def _position(data: bytearray, draw: random.Random) -> int:
    """Mostly near the front, where what is not pixels lies."""
    return draw.randint(0, min(len(data), 256) if draw.random() < 0.8 else len(data))


def fuzz(specification: Specification, frames: int, seed: int) -> dict[str, Any]:
    """Send `frames` frames, mutated and written by hand in turn, to both decoders and to the check behind.

    Returns how many were `refused` as frames, `unfit` (understood, but nothing for this policy) and
    `accepted`, per dialect, and the growth of the peak of memory in MB after the first tenth. Whatever a
    decoder raises but WireError, and the check but UserError, is raised.
    """
    draw, limit = random.Random(seed), wire.request_limit(specification)
    dialects: Mapping[str, tuple[Callable[[bytes], Request | None], list[bytes], list[bytes]]] = {
        "vla.v1": (
            lambda data: _wire_request(data, limit),
            honest_wire(specification),
            list(hostile_wire().values()),
        ),
        "openpi": (
            lambda data: openpi.read_request(
                openpi.decode(data, limit), specification, session="s", reset=False
            ),
            honest_openpi(specification),
            list(hostile_openpi().values()),
        ),
    }
    counts = {name: Counter(refused=0, unfit=0, accepted=0) for name in dialects}
    before = peak_mb()
    for number in range(frames):
        if number == frames // 10:
            before = peak_mb()
        name = draw.choice(list(dialects))
        read, honest, hostile = dialects[name]
        frame = mutated(draw.choice(honest if draw.random() < 0.9 else hostile), honest, draw)
        counts[name][_outcome(read, frame, specification)] += 1
    return {"frames": frames, "dialects": counts, "memory_growth_mb": peak_mb() - before}


def _wire_request(data: bytes, limit: int) -> Request | None:
    message = wire.decode(data, limit)
    wire.decode(wire.encode(message), limit + wire.MAX_HEADER)  # what is accepted can be passed on
    return message.request if isinstance(message, Ask) else None


def _outcome(read: Callable[[bytes], Request | None], frame: bytes, specification: Specification) -> str:
    try:
        request = read(frame)
    except WireError:
        return "refused"
    try:
        if request is not None:
            check_request(request, specification)
    except UserError:
        return "unfit"
    return "accepted"


def peak_mb() -> float:
    """The most memory that this process has held so far, in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
