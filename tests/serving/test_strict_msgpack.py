import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied.serving.strict_msgpack import Caps, WireError, unpack

CAPS = Caps(depth=3, entries=20, values=200, text=40)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_it_reads_what_msgpack_writes(value: object) -> None:
    assert unpack(msgpack.packb(value), Caps(depth=30)) == value


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_one_value_or_refused(data: bytes) -> None:
    try:
        value = unpack(data, CAPS)
    except WireError:
        return
    assert msgpack.unpackb(data, strict_map_key=False) == _as_bytes(value)


def _as_bytes(value: object) -> object:
    """Buffers are views here and bytes there."""
    match value:
        case memoryview():
            return bytes(value)
        case list():
            return [_as_bytes(entry) for entry in value]
        case dict():
            return {key: _as_bytes(entry) for key, entry in value.items()}
    return value


def test_a_buffer_is_a_view_and_cannot_be_written() -> None:
    data = msgpack.packb({"a": b"12345"})
    value = unpack(data, CAPS)
    assert isinstance(value, dict)
    assert value["a"].obj is data
    assert value["a"].readonly


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[[[]]]], "deeper than 3 levels"),
        ([0] * 21, "21 entries: expected at most 20"),
        ([[0] * 20] * 10, "more than 200 values"),
        ("t" * 41, "text of 41 bytes: expected at most 40"),
        ({b"k" * 41: 0}, "key of 41 bytes: expected at most 40"),
        (msgpack.ExtType(5, b"abcd"), "type 0xd6: expected no extension type"),
        (msgpack.ExtType(5, b"a" * 100), "type 0xc7: expected no extension type"),
    ],
)
def test_what_exceeds_a_cap_is_refused(value: object, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        unpack(msgpack.packb(value), CAPS)


@pytest.mark.parametrize("value", [[[[]]] * 2, [0] * 20, "t" * 40])
def test_what_just_fits_a_cap_is_read(value: object) -> None:
    assert unpack(msgpack.packb(value), CAPS) == value
