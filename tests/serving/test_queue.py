import numpy as np
import pytest

from embodied.serving.queue import MERGES, ActionQueue, Chunk, Latency


def chunk(begin: int, *values: float) -> Chunk:
    return Chunk(actions=np.array(values)[:, None], begin=begin)


def drained(queue: ActionQueue) -> list[float]:
    found = []
    while (action := queue.take()) is not None:
        found.append(float(action[0]))
    return found


def test_actions_come_in_order_and_then_none() -> None:
    queue = ActionQueue(MERGES["rtc"])
    queue.add(chunk(0, 1, 2, 3))
    assert len(queue) == 3
    assert drained(queue) == [1, 2, 3]
    assert queue.take() is None
    assert queue.consumed == 3


def test_a_later_chunk_skips_what_was_consumed_since_its_look() -> None:
    queue = ActionQueue(MERGES["rtc"])
    queue.add(chunk(0, 1, 2, 3, 4))
    queue.take()
    begin = queue.consumed  # the look
    queue.take()
    queue.take()  # while the decision is on its way
    assert queue.add(chunk(begin, 20, 30, 40, 50, 60))
    assert drained(queue) == [40, 50, 60]


def test_nothing_is_consumed_while_there_is_nothing() -> None:
    queue = ActionQueue(MERGES["rtc"])
    for _ in range(5):
        queue.take()
    queue.add(chunk(0, 1, 2))
    assert drained(queue) == [1, 2]


def test_what_comes_too_late_or_out_of_order_is_not_taken() -> None:
    queue = ActionQueue(MERGES["rtc"])
    queue.add(chunk(0, 1, 2, 3, 4))
    queue.take()
    queue.take()
    assert not queue.add(chunk(0, 9, 9))
    assert queue.add(chunk(2, 5, 6, 7))
    assert not queue.add(chunk(1, 9, 9, 9, 9, 9))
    assert drained(queue) == [5, 6, 7]


def test_what_is_left_is_what_will_come() -> None:
    queue = ActionQueue(MERGES["rtc"])
    assert queue.left().size == 0
    queue.add(chunk(0, 1, 2, 3))
    queue.take()
    assert queue.left().tolist() == [[2], [3]]


def test_an_ensemble_averages_all_predictions_for_a_tick() -> None:
    queue = ActionQueue(MERGES["ensemble"])
    queue.add(chunk(0, 0, 0, 0))
    queue.take()
    queue.add(chunk(1, 1, 1, 1))
    older, newer = 1.0, np.exp(-0.01)
    assert drained(queue) == pytest.approx([newer / (older + newer)] * 2 + [1.0])


def test_after_clearing_only_new_chunks_count() -> None:
    queue = ActionQueue(MERGES["rtc"])
    queue.add(chunk(0, 1, 2, 3))
    queue.take()
    queue.clear()
    assert queue.take() is None
    queue.add(chunk(1, 7, 8))
    assert drained(queue) == [7, 8]


def test_latency_leaves_out_the_warm_up_as_soon_as_it_can_and_forgets() -> None:
    latency = Latency()
    assert latency.steps(30) == 0
    latency.add(5.0)  # loading
    assert latency.steps(30) == 150
    latency.add(0.1)
    latency.add(0.05)
    assert latency.steps(30) == 3
    for _ in range(10):
        latency.add(0.05)
    assert latency.steps(30) == 2
