"""openpi's dialect, so that its stock client (`openpi-client`) is served: no sub-protocol, metadata first.

Frames are nested msgpack maps in which arrays are maps of their own (dtype, shape, data), as msgpack-numpy
writes them: https://github.com/Physical-Intelligence/openpi, packages/openpi-client. Here they are read as
strictly as `vla.v1`: no object arrays, no pickle, nothing that was not asked for. An error is a text frame.

The client names things freely. `observation/images/front`, `images/front` (nested or not),
`observation/front` and `observation.images.front` all mean the camera `front`; `observation/state` and
`state` the joints; `prompt` and `task` the instruction. A picture may come as (3, H, W), as ALOHA's do.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from embodied.serving.runner import Decision, Request
from embodied.serving.specification import Specification, to_plain
from embodied.serving.strict_msgpack import Caps, WireError, unpack
from embodied.serving.wire import array_type, make_array, pack

CAPS = Caps(entries=64, values=512)
NDARRAY, NUMBER, DATA, DTYPE, SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
GROUPS = ("observation", "images")
STATE, TASK, PROMPT = "state", "task", "prompt"
Nested = dict[str, Any]


def metadata(specification: Specification) -> bytes:
    """The server's first frame: what the policy asks for and gives."""
    return encode(to_plain(specification))


def encode(value: Nested) -> bytes:
    """One frame of nested maps, lists, text, numbers and arrays."""
    return pack(_marked(value))


def _marked(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {
            NDARRAY: True,
            DATA: value.tobytes(),
            DTYPE: value.dtype.str,
            SHAPE: list(value.shape),
        }
    if isinstance(value, dict):
        return {key: _marked(entry) for key, entry in value.items()}
    return value


def answer(decision: Decision) -> bytes:
    """The frame of a decision, with the names of openpi's server."""
    taken = {"infer_ms": 1000 * decision.seconds}
    return encode({"actions": decision.actions, "policy_timing": taken, "server_timing": taken})


def decode(data: bytes | memoryview, limit: int) -> Nested:
    """The nested map in one frame of at most `limit` bytes; arrays are read-only views of `data`.

    Raises WireError for anything else.
    """
    if len(data) > limit:
        raise WireError(f"frame of {len(data)} bytes: expected at most {limit}")
    value = _unmarked(unpack(data, CAPS))
    if not isinstance(value, dict):
        raise WireError("frame: expected a map")
    return value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        if NDARRAY in value:
            return _array(value)
        if NUMBER in value:
            return _number(value)
        for key in value:
            if not isinstance(key, str):
                raise WireError("key of bytes: expected text")
        return {key: _unmarked(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_unmarked(entry) for entry in value]
    if isinstance(value, memoryview):
        raise WireError("bytes: expected them in an array only")
    return value


def _array(value: dict[Any, Any]) -> np.ndarray:
    if set(value) != {NDARRAY, DATA, DTYPE, SHAPE} or value[NDARRAY] is not True:
        raise WireError("array: expected data, dtype and shape")
    if not isinstance(value[DATA], memoryview):
        raise WireError("data of an array: expected bytes")
    return make_array(value[DATA], *array_type(value[DTYPE], value[SHAPE]))


def _number(value: dict[Any, Any]) -> int | float:
    if set(value) != {NUMBER, DATA, DTYPE} or value[NUMBER] is not True:
        raise WireError("number: expected data and dtype")
    array_type(value[DTYPE], [])
    if type(value[DATA]) not in (int, float):
        raise WireError("number: expected an integer or a float")
    return value[DATA]


def read_request(frame: Nested, specification: Specification, *, session: str, reset: bool) -> Request:
    """What a client of openpi asks, in our terms. Raises WireError for a name that the policy does not know.

    reset: for the first request of a connection, as the client has no word for it.
    """
    kinds = {**dict.fromkeys(specification.cameras, np.ndarray), STATE: np.ndarray, TASK: str}
    found: dict[str, Any] = {}
    for given, value in _flat(frame):
        name = TASK if given == PROMPT else given
        if name not in kinds:
            raise WireError(f"{given[:40]!r}: expected one of {', '.join([*kinds, PROMPT])}")
        if not isinstance(value, kinds[name]) or name in found:
            raise WireError(f"{given}: expected {'text' if name == TASK else 'an array'}, once")
        found[name] = value
    if STATE not in found:
        raise WireError(f"{STATE} is missing")
    with np.errstate(all="ignore"):  # infinite as float32, and refused as such later
        state = found[STATE].astype(np.float32)
    sizes = specification.cameras
    images = {name: _upright(found[name], size) for name, size in sizes.items() if name in found}
    return Request(session=session, images=images, state=state, task=found.get(TASK, ""), reset=reset)


def _flat(frame: Nested, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its name, of which the groups it lies in are no part."""
    for key, value in frame.items():
        parts = [*prefix.split("/"), *re.split(r"[/.]", key)]
        name = "/".join(part for part in parts if part and part not in GROUPS)
        if isinstance(value, dict):
            yield from _flat(value, name)
        else:
            yield name, value


def _upright(image: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """(H, W, 3) of a picture whose channels may come first."""
    first = (size[2], size[0], size[1])
    return image.transpose(1, 2, 0) if image.shape == first and first != size else image
