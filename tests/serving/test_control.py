import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.control import Controller, Look, Patience, State
from embodied.serving.queue import MERGES, ActionQueue

TICK = 1 / 30


def controller() -> Controller:
    return Controller(ActionQueue(MERGES["rtc"]), Patience(overdue=0.2, stale=0.5))


def chunk(steps: int = 30) -> np.ndarray:
    return np.arange(steps, dtype=float)[:, None]


def running(steps: int = 30) -> Controller:
    """Connected, and decided on a look at time 0."""
    control = controller()
    control.connected(0.0)
    assert control.decide(chunk(steps), control.look(0.0), 0.0)
    return control


def test_from_init_over_ready_to_run() -> None:
    control = controller()
    assert control.state is State.INIT
    assert control.tick(0.0) is None
    control.connected(0.1)
    assert control.state is State.READY
    assert control.tick(0.1) is None
    assert control.decide(chunk(), control.look(0.2), 0.25)
    assert control.state is State.RUN
    assert control.tick(0.3) == [0.0]


def test_an_empty_queue_holds_in_the_same_tick() -> None:
    control = running(steps=2)
    assert [control.tick(0.0), control.tick(TICK)] == [[0.0], [1.0]]
    assert control.tick(2 * TICK) is None
    assert control.state is State.HOLD
    assert control.history[-1].reason == "the queue is empty"


def test_an_overdue_decision_degrades_and_the_tail_is_carried_out() -> None:
    control = running()
    ticks = [control.tick(step * TICK) for step in range(12)]
    assert all(action is not None for action in ticks)
    assert control.state is State.DEGRADED
    assert [event.state for event in control.history] == [State.READY, State.RUN, State.DEGRADED]


def test_a_stale_look_holds_although_actions_are_left() -> None:
    control = running()
    assert control.tick(0.49) is not None
    assert control.tick(0.51) is None
    assert control.state is State.HOLD
    assert len(control.queue) == 0


def test_a_lost_connection_degrades_at_once_and_a_decision_in_time_mends_it() -> None:
    control = running()
    control.disconnected(0.1, "gone")
    assert control.state is State.DEGRADED
    assert control.tick(0.1) is not None
    control.connected(0.2)
    assert control.decide(chunk(), control.look(0.25), 0.3)
    assert control.state is State.RUN


def test_out_of_a_hold_leads_only_a_look_taken_after_it_began() -> None:
    control = running(steps=1)
    old = control.look(0.0)
    control.tick(0.0)
    control.tick(0.3)
    assert control.state is State.HOLD
    assert not control.decide(chunk(), old, 0.35)
    assert control.state is State.HOLD
    assert control.decide(chunk(), control.look(0.4), 0.45)
    assert control.state is State.RUN


def test_a_look_of_before_the_reconnection_does_not_count() -> None:
    control = running()
    old = control.look(0.1)
    control.disconnected(0.2, "gone")
    control.connected(0.3)
    assert not control.decide(chunk(), old, 0.31)
    assert control.state is State.DEGRADED


def test_a_decision_on_a_stale_look_does_not_count() -> None:
    control = controller()
    control.connected(0.0)
    assert not control.decide(chunk(), control.look(0.0), 0.6)
    assert control.state is State.READY


def test_a_decision_of_which_every_action_is_too_late_does_not_count() -> None:
    control = running()
    look = control.look(0.0)
    for step in range(5):
        control.tick(step * TICK)
    assert not control.decide(chunk(5), look, 0.2)


def test_before_the_connection_nothing_counts() -> None:
    assert not controller().decide(chunk(), Look(taken=0.0, begin=0), 0.0)


def test_a_stop_is_for_good() -> None:
    control = running()
    control.stop(0.1, "asked")
    assert control.tick(0.1) is None
    control.connected(0.2)
    assert not control.decide(chunk(), control.look(0.3), 0.3)
    assert control.state is State.STOP


def test_a_fault_holds_until_there_is_a_look_of_after_it() -> None:
    control = running()
    old = control.look(0.1)
    control.fault(0.2, "a joint is stuck")
    assert control.tick(0.2) is None
    assert not control.decide(chunk(), old, 0.25)
    assert control.decide(chunk(), control.look(0.3), 0.35)


def test_a_new_episode_forgets_what_was_decided() -> None:
    control = running()
    old = control.look(0.1)
    control.begin_episode(0.2)
    assert control.tick(0.2) is None
    assert control.state is State.READY
    assert not control.decide(chunk(), old, 0.2)


@pytest.mark.parametrize(("overdue", "stale"), [(0.0, 1.0), (1.0, 0.5)])
def test_patience_that_makes_no_sense_is_refused(overdue: float, stale: float) -> None:
    with pytest.raises(UserError, match="expected 0 < overdue <= stale"):
        Patience(overdue=overdue, stale=stale)
