from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpi_client import msgpack_numpy

from embodied.serving import openpi
from embodied.serving.fuzzing import honest_openpi, hostile_openpi
from embodied.serving.runner import Decision, check_request
from embodied.serving.specification import from_plain
from embodied.serving.strict_msgpack import WireError
from tests.serving.specifications import POLICY

LIMIT = 10_000
FRONT = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
WRIST = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
STATE = np.array([1.0, 2.0, 3.0])


def read(observation: dict[str, Any]) -> Any:
    """What is understood of an observation that the stock client packs."""
    frame = openpi.decode(msgpack_numpy.packb(observation), LIMIT)
    return openpi.read_request(frame, POLICY, session="s", reset=False)


@pytest.mark.parametrize(
    "observation",
    [
        {
            "observation/images/front": FRONT,
            "observation/wrist": WRIST,
            "observation/state": STATE,
            "prompt": "go",
        },
        {"images": {"front": FRONT, "wrist": WRIST}, "state": STATE, "task": "go"},
        {
            "observation.images.front": FRONT,
            "observation.images.wrist": WRIST,
            "observation.state": STATE,
            "prompt": "go",
        },
        {"images": {"front": FRONT.transpose(2, 0, 1), "wrist": WRIST}, "state": STATE, "prompt": "go"},
    ],
)
def test_an_observation_is_understood_by_all_its_names(observation: dict[str, Any]) -> None:
    request = read(observation)
    assert np.array_equal(request.images["front"], FRONT)
    assert np.array_equal(request.images["wrist"], WRIST)
    assert request.state.tolist() == [1.0, 2.0, 3.0]
    assert request.task == "go"
    check_request(request, POLICY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observation/top": FRONT}, "'top': expected one of front, wrist, state, task, prompt"),
        ({"state": "1, 2, 3"}, "state: expected an array"),
        ({"observation/state": STATE}, "state: expected an array, once"),
        ({"prompt": STATE}, "prompt: expected text"),
        ({"front": 5}, "front: expected an array"),
    ],
)
def test_what_is_not_understood_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        read({"front": FRONT, "wrist": WRIST, "state": STATE, **changes})


def test_the_stock_client_reads_a_decision_and_the_metadata() -> None:
    actions = np.arange(15, dtype=np.float32).reshape(5, 3)
    answer = msgpack_numpy.unpackb(openpi.answer(Decision(actions=actions, seconds=0.25)))
    assert np.array_equal(answer["actions"], actions)
    assert answer["policy_timing"] == {"infer_ms": 250.0}
    assert from_plain(msgpack_numpy.unpackb(openpi.metadata(POLICY))) == POLICY


def test_numbers_of_numpy_are_read() -> None:
    frame = openpi.decode(msgpack_numpy.packb({"a": np.float32(0.5), "b": np.int64(3)}), LIMIT)
    assert frame == {"a": 0.5, "b": 3}


@pytest.mark.parametrize("name", hostile_openpi())
def test_hostile_frames_are_refused(name: str) -> None:
    with pytest.raises(WireError):
        openpi.decode(hostile_openpi()[name], LIMIT)


def test_a_frame_over_the_limit_is_refused() -> None:
    frame = honest_openpi(POLICY)[0]
    openpi.decode(frame, len(frame))
    with pytest.raises(WireError, match="expected at most"):
        openpi.decode(frame, len(frame) - 1)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_frame_with_one_byte_changed_is_understood_or_refused(data: st.DataObject) -> None:
    frame = bytearray(data.draw(st.sampled_from(honest_openpi(POLICY))))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        request = openpi.read_request(openpi.decode(bytes(frame), LIMIT), POLICY, session="s", reset=False)
        assert request.state.dtype == np.float32
