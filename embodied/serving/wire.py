"""Sub-protocol `vla.v1`: one message per WebSocket frame, a small msgpack header and raw buffers behind it.

    frame  = length of the header (4 bytes, little-endian) | header | buffers, one after another
    header = {"type": ..., field: value, "arrays": {name: [dtype, [side, ...]]}}

The arrays' bytes follow in the order of `arrays`, little-endian, rows last to first. Nothing is executed,
looked up or imported because of what a frame says: types and dtypes are chosen from the tables below. A
message is typed and complete, or it is refused (`WireError`); whether it suits the policy is checked by
`embodied.serving.runner.check_request`.

Times are durations in seconds, since the two clocks may differ: `age` of an observation when it is sent,
`deadline` counted from then.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from embodied.errors import UserError
from embodied.serving.runner import Decision, Request
from embodied.serving.specification import MAX_CANDIDATES, Specification, from_plain, to_plain
from embodied.serving.strict_msgpack import Caps, WireError, unpack

SUBPROTOCOL = "vla.v1"
DTYPES = {dtype.str: dtype for dtype in map(np.dtype, ("|u1", "<i4", "<i8", "<f4", "<f8"))}
MAX_RANK = 5
MAX_ARRAYS = 20
MAX_HEADER = 1 << 16
MAX_DURATION = 3600.0
MAX_SEQUENCE = 1 << 53
HEADER_CAPS = Caps()
CODES = (
    "busy",
    "closing",
    "expired",
    "invalid",
    "session",
    "specification",
    "superseded",
    "token",
    "unavailable",
)
"""What a `Failure` may be: no room for a session; the server drains; the deadline passed in the queue; a
frame or request that cannot be used; no such session; the handshake found a mismatch; a newer request of the
same session took its place; the token is not the server's; inference failed or is starting anew."""

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Client's first message. mode: how to decide, the server's choice if empty; expects: the robot.

    candidates: chunks to choose among in mode `plan`, the server's choice if 0.
    """

    mode: str = ""
    candidates: int = 0
    expects: Specification


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Server's answer to a `Hello` that it can serve: the session to name in every request.

    mode, candidates: how it will decide; no candidates in other modes than `plan`. The specification's
    candidates are the most that a session may ask for.
    """

    session: str
    mode: str
    candidates: int = 0
    specification: Specification


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One look. sequence: counts up; age: of the observation, deadline: from its sending, in seconds."""

    sequence: int
    age: float
    deadline: float
    request: Request


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The decision on `Ask` number `sequence`. queued: seconds it waited on the server."""

    sequence: int
    queued: float
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no answer. code: one of `CODES`; reason: one line; sequence: of the request, if of one."""

    code: str
    reason: str
    sequence: int | None = None


Message = Hello | Offer | Ask | Answer | Failure
Arrays = Mapping[str, np.ndarray]
Header = dict[str, Any]


def request_limit(specification: Specification) -> int:
    """Bytes of the largest `Hello` or `Ask` that a policy of this specification can use."""
    pictures = sum(math.prod(size) for size in specification.cameras.values())
    prefix = specification.chunk_size * len(specification.action.names)
    return 4 + MAX_HEADER + pictures + 8 * (len(specification.state.names) + prefix)


def answer_limit(specification: Specification) -> int:
    """Bytes of the largest `Offer`, `Answer` or `Failure` of a server of this specification."""
    return 4 + MAX_HEADER + 8 * specification.chunk_size * len(specification.action.names)


# --- encoding -------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """One frame. Raises WireError for a dtype that is not in `DTYPES`, or a header that is too large."""
    kind, fields, arrays = _taken_apart(message)
    shapes = {name: [_dtype_name(name, array), list(array.shape)] for name, array in arrays.items()}
    header = pack({"type": kind, **fields, "arrays": shapes})
    if len(header) > MAX_HEADER:
        raise WireError(f"header of {len(header)} bytes: expected at most {MAX_HEADER}")
    return b"".join([_LENGTH.pack(len(header)), header, *(array.tobytes() for array in arrays.values())])


def one_line(error: Exception) -> str:
    """What is wrong, short, whatever names the sender made up."""
    return " ".join(str(error).split())[:200]


def pack(value: Any) -> bytes:
    """Plain values as msgpack."""
    packed = msgpack.packb(value)
    assert packed is not None
    return packed


def _dtype_name(name: str, array: np.ndarray) -> str:
    if array.dtype.str not in DTYPES or array.ndim > MAX_RANK:
        raise WireError(
            f"array {name} of {array.dtype}, rank {array.ndim}: expected one of {', '.join(DTYPES)}"
        )
    return array.dtype.str


def _taken_apart(message: Message) -> tuple[str, Header, Arrays]:
    match message:
        case Hello():
            asked = {"mode": message.mode, "candidates": message.candidates}
            return "hello", asked | {"expects": to_plain(message.expects)}, {}
        case Offer():
            agreed = {"mode": message.mode, "candidates": message.candidates}
            plain = to_plain(message.specification)
            return "offer", {"session": message.session, **agreed, "specification": plain}, {}
        case Ask():
            return "ask", *_ask_fields(message)
        case Answer():
            fields = {
                "sequence": message.sequence,
                "queued": message.queued,
                "seconds": message.decision.seconds,
            }
            return "answer", fields, {"actions": message.decision.actions}
        case Failure():
            fields = {"code": message.code, "reason": message.reason, "sequence": message.sequence}
            return "failure", fields, {}


def _ask_fields(ask: Ask) -> tuple[Header, Arrays]:
    request = ask.request
    fields = {
        "session": request.session,
        "sequence": ask.sequence,
        "age": ask.age,
        "deadline": ask.deadline,
        "task": request.task,
        "delay": request.delay,
        "reset": request.reset,
    }
    arrays = {f"image/{name}": image for name, image in request.images.items()} | {"state": request.state}
    if request.prefix is not None:
        arrays["prefix"] = request.prefix
    return fields, arrays


# --- decoding -------------------------------------------------------------------------------------


def decode(data: bytes | memoryview, limit: int) -> Message:
    """The message in one frame of at most `limit` bytes; its arrays are read-only views of `data`.

    Raises WireError for anything else.
    """
    if len(data) > limit:
        raise WireError(f"frame of {len(data)} bytes: expected at most {limit}")
    header, buffers = _split(memoryview(data))
    kind = header.pop("type", None)
    if not isinstance(kind, str) or kind not in _READERS:
        raise WireError(f"type: expected one of {', '.join(_READERS)}")
    arrays = _arrays(header.pop("arrays", None), buffers)
    fields = _Fields(header)
    try:
        message = _READERS[kind](fields, arrays)
    except UserError as error:  # of a specification that contradicts itself
        raise WireError(one_line(error)) from error
    fields.expect_none_left(arrays)
    return message


def _split(data: memoryview) -> tuple[Header, memoryview]:
    if len(data) < _LENGTH.size:
        raise WireError(f"frame of {len(data)} bytes: expected at least {_LENGTH.size}")
    (length,) = _LENGTH.unpack(data[: _LENGTH.size])
    if length > min(MAX_HEADER, len(data) - _LENGTH.size):
        raise WireError(
            f"header of {length} bytes: expected at most {MAX_HEADER}, and no more than were sent"
        )
    end = _LENGTH.size + length
    header = unpack(data[_LENGTH.size : end], HEADER_CAPS)
    if not isinstance(header, dict):
        raise WireError("header: expected a map")
    return header, data[end:]


def _arrays(shapes: Any, buffers: memoryview) -> dict[str, np.ndarray]:
    """The arrays that a header announces, if they fill the buffers exactly."""
    if not isinstance(shapes, dict) or len(shapes) > MAX_ARRAYS:
        raise WireError(f"arrays: expected a map of at most {MAX_ARRAYS}")
    found, at = {}, 0
    for name, described in shapes.items():
        if not isinstance(name, str) or not isinstance(described, list) or len(described) != 2:
            raise WireError("arrays: expected [dtype, shape] by name")
        dtype, shape = array_type(*described)
        size = math.prod(shape) * dtype.itemsize
        found[name] = make_array(buffers[at : at + size], dtype, shape)
        at += size
    if at != len(buffers):
        raise WireError(f"arrays of {at} bytes: expected {len(buffers)}, what follows the header")
    return found


def array_type(dtype: Any, shape: Any) -> tuple[np.dtype, tuple[int, ...]]:
    """What a sender says of an array, if allowed: a dtype of the table, at most five sides, none negative."""
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WireError(f"dtype of an array: expected one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise WireError(f"shape of an array: expected a list of at most {MAX_RANK}")
    for side in shape:
        if type(side) is not int or not 0 <= side <= np.iinfo(np.int32).max:
            raise WireError("shape of an array: expected integers of at least 0")
    return DTYPES[dtype], tuple(shape)


def make_array(buffer: memoryview, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A read-only view; WireError unless shape times item size is the length of the buffer."""
    size = math.prod(shape) * dtype.itemsize
    if len(buffer) != size:
        raise WireError(f"buffer of {len(buffer)} bytes: expected {size}, as its shape says")
    return np.frombuffer(buffer, dtype).reshape(shape)


class _Fields:
    """A header's values, each taken once and checked."""

    def __init__(self, header: Header) -> None:
        self._header = header

    def any(self, name: str) -> Any:
        if name not in self._header:
            raise WireError(f"{name} is missing")
        return self._header.pop(name)

    def text(self, name: str, most: int = HEADER_CAPS.text) -> str:
        value = self.any(name)
        if not isinstance(value, str) or len(value) > most:
            raise WireError(f"{name}: expected text of at most {most} characters")
        return value

    def flag(self, name: str) -> bool:
        value = self.any(name)
        if not isinstance(value, bool):
            raise WireError(f"{name}: expected true or false")
        return value

    def integer(self, name: str, most: int = MAX_SEQUENCE) -> int:
        value = self.any(name)
        if type(value) is not int or not 0 <= value <= most:
            raise WireError(f"{name}: expected an integer from 0 to {most}")
        return value

    def seconds(self, name: str) -> float:
        value = self.any(name)
        if type(value) not in (int, float) or not 0 <= value <= MAX_DURATION:
            raise WireError(f"{name}: expected seconds from 0 to {MAX_DURATION:g}")
        return float(value)

    def expect_none_left(self, arrays: Arrays) -> None:
        for name in [*self._header, *arrays]:
            raise WireError(f"{str(name)[:40]!r}: expected no such field in a message of this type")


Read = dict[str, np.ndarray]


def _hello(fields: _Fields, arrays: Read) -> Hello:
    return Hello(
        mode=fields.text("mode", 40),
        candidates=fields.integer("candidates", MAX_CANDIDATES),
        expects=from_plain(fields.any("expects")),
    )


def _offer(fields: _Fields, arrays: Read) -> Offer:
    return Offer(
        session=fields.text("session", 64),
        mode=fields.text("mode", 40),
        candidates=fields.integer("candidates", MAX_CANDIDATES),
        specification=from_plain(fields.any("specification")),
    )


def _ask(fields: _Fields, arrays: Read) -> Ask:
    names = [name for name in arrays if name.startswith("image/")]
    request = Request(
        session=fields.text("session", 64),
        images={name.removeprefix("image/"): arrays.pop(name) for name in names},
        state=_floats(arrays, "state"),
        task=fields.text("task"),
        prefix=_floats(arrays, "prefix") if "prefix" in arrays else None,
        delay=fields.integer("delay", 10_000),
        reset=fields.flag("reset"),
    )
    return Ask(
        sequence=fields.integer("sequence"),
        age=fields.seconds("age"),
        deadline=fields.seconds("deadline"),
        request=request,
    )


def _answer(fields: _Fields, arrays: Read) -> Answer:
    decision = Decision(actions=_floats(arrays, "actions"), seconds=fields.seconds("seconds"))
    return Answer(sequence=fields.integer("sequence"), queued=fields.seconds("queued"), decision=decision)


def _failure(fields: _Fields, arrays: Read) -> Failure:
    code = fields.text("code", 40)
    if code not in CODES:
        raise WireError(f"code: expected one of {', '.join(CODES)}")
    sequence = fields.any("sequence")
    if sequence is not None and (type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE):
        raise WireError("sequence: expected an integer of at least 0, or none")
    return Failure(code=code, reason=fields.text("reason"), sequence=sequence)


def _floats(arrays: Read, name: str) -> np.ndarray:
    """An array of numbers, taken; as float32, whatever precision it was sent in."""
    if name not in arrays:
        raise WireError(f"array {name} is missing")
    array = arrays.pop(name)
    if array.dtype.kind != "f":
        raise WireError(f"array {name} of {array.dtype}: expected float32 or float64")
    with np.errstate(all="ignore"):  # infinite as float32, and refused as such later
        return array.astype(np.float32, copy=False)


_READERS: dict[str, Callable[[_Fields, Read], Message]] = {
    "hello": _hello,
    "offer": _offer,
    "ask": _ask,
    "answer": _answer,
    "failure": _failure,
}
