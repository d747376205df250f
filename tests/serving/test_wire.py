from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied.serving.fuzzing import asking, fuzz, honest_request, honest_wire, hostile_wire
from embodied.serving.runner import Decision, check_request
from embodied.serving.specification import MAX_SIGNALS, Signals
from embodied.serving.strict_msgpack import WireError
from embodied.serving.wire import (
    Answer,
    Ask,
    Failure,
    Hello,
    Message,
    Offer,
    answer_limit,
    decode,
    encode,
    request_limit,
)
from tests.serving.specifications import POLICY, ROBOT

LIMIT = request_limit(POLICY)
REQUEST = honest_request(POLICY, np.random.default_rng(0))
MESSAGES = [
    Hello(mode="plan", candidates=16, expects=ROBOT),
    Offer(session="12ab", mode="plan", candidates=16, specification=POLICY),
    Ask(sequence=7, age=0.01, deadline=0.25, request=REQUEST),
    Ask(sequence=2**53, age=0.0, deadline=0.0, request=replace(REQUEST, prefix=None, delay=0, reset=True)),
    Answer(sequence=7, queued=0.5, decision=Decision(actions=np.eye(3, dtype=np.float32), seconds=0.125)),
    Failure(code="expired", reason="no", sequence=7),
    Failure(code="closing", reason="no"),
]


def plain(message: Message) -> object:
    """Comparable: arrays as lists."""
    return _lists(asdict(message))


def _lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _lists(entry) for key, entry in value.items()}
    return (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert plain(decode(encode(message), LIMIT)) == plain(message)


def test_a_request_that_arrived_fits_the_policy() -> None:
    ask = decode(encode(MESSAGES[2]), LIMIT)
    assert isinstance(ask, Ask)
    check_request(ask.request, POLICY)
    assert not ask.request.images["front"].flags.writeable


def test_pictures_are_views_of_the_frame() -> None:
    frame = encode(MESSAGES[2])
    ask = decode(frame, LIMIT)
    assert isinstance(ask, Ask)
    assert np.shares_memory(ask.request.images["front"], np.frombuffer(frame, np.uint8))


def test_numbers_of_double_precision_are_read_as_single() -> None:
    request = replace(REQUEST, state=np.array([1.0, 1e300, 0.5]))
    ask = decode(encode(Ask(sequence=0, age=0, deadline=1, request=request)), LIMIT)
    assert isinstance(ask, Ask)
    assert ask.request.state.tolist() == [1.0, np.inf, 0.5]
    assert ask.request.state.dtype == np.float32


@pytest.mark.parametrize("name", hostile_wire())
def test_hostile_frames_are_refused(name: str) -> None:
    with pytest.raises(WireError):
        decode(hostile_wire()[name], LIMIT)


def test_the_frame_that_the_hostile_ones_vary_is_fine() -> None:
    """Else they would be refused for another reason than the one they are named by."""
    assert isinstance(decode(asking(), LIMIT), Ask)


def test_a_refusal_is_one_short_line_whatever_names_were_made_up() -> None:
    robot = replace(ROBOT, robot_type="a\n" * 1000, cameras={"b\n" * 1000: (4, 6, 3)})
    frame = encode(Hello(expects=robot)).replace(b"\xcb\x40\x3e", b"\xcb\xc0\x3e")  # 30 frames/s made -30
    with pytest.raises(WireError) as refusal:
        decode(frame, LIMIT)
    assert len(str(refusal.value)) <= 200
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("fps -30.0")


def test_a_frame_over_the_limit_is_refused_unread() -> None:
    frame = encode(MESSAGES[2])
    decode(frame, len(frame))
    with pytest.raises(WireError, match="expected at most"):
        decode(frame, len(frame) - 1)


def test_the_limit_leaves_room_for_the_largest_request_and_hardly_more() -> None:
    joints = Signals(
        names=tuple(f"joint {i}" for i in range(MAX_SIGNALS)),
        units=("deg",) * MAX_SIGNALS,
        low=(-1.0,) * MAX_SIGNALS,
        high=(1.0,) * MAX_SIGNALS,
    )
    large = replace(POLICY, state=joints, action=joints, chunk_size=100, cameras={"a": (480, 640, 3)})
    generator = np.random.default_rng(0)
    request = replace(
        honest_request(large, generator), task="t" * 4096, prefix=np.zeros((100, MAX_SIGNALS), np.float32)
    )
    frame = encode(Ask(sequence=1, age=0, deadline=1, request=request))
    assert len(frame) <= request_limit(large) <= 480 * 640 * 3 + 2**17
    offer = encode(Offer(session="s" * 64, mode="reactive", specification=large))
    assert len(offer) <= answer_limit(large)
    assert len(encode(Hello(expects=large))) <= request_limit(large)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_frame_with_one_byte_changed_is_a_message_or_refused(data: st.DataObject) -> None:
    frame = bytearray(data.draw(st.sampled_from(honest_wire(POLICY))))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        assert type(decode(bytes(frame), LIMIT)) in {type(message) for message in MESSAGES}


@pytest.mark.parametrize("seed", [0, 1])
def test_fuzzing_crashes_neither_decoder(seed: int) -> None:
    result = fuzz(POLICY, 1500, seed)
    for counts in result["dialects"].values():
        assert sum(counts.values()) > 500
        assert counts["accepted"] > 20
        assert counts["refused"] > 200


def test_a_dtype_that_is_not_on_the_list_is_not_sent() -> None:
    request = replace(REQUEST, state=np.array([object()]))
    with pytest.raises(WireError, match="array state of object"):
        encode(Ask(sequence=0, age=0, deadline=1, request=request))
