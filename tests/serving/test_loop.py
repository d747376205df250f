import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.asking import Impossible, Question
from embodied.serving.control import State
from tests.serving.fakes import TICK, Rig, rig, wave


def moved(rig_: Rig, since: int) -> float:
    """By how many degrees the first joint was commanded on, from tick `since`."""
    return float(np.abs(np.diff([command[0] for command in rig_.robot.log[since:]])).sum())


def holds(rig_: Rig) -> list[tuple[float, str]]:
    return [(event.time, event.reason) for event in rig_.loop.controller.history if event.state is State.HOLD]


def test_a_healthy_policy_moves_the_robot_without_a_pause() -> None:
    it = rig()
    it.loop.run(10.0)
    assert it.loop.controller.state is State.RUN
    assert holds(it) == []
    assert it.loop.counts.ticks == pytest.approx(300, abs=1)
    assert moved(it, 0) > 200
    assert it.broken_rules() == []


def test_it_asks_with_what_is_left_and_with_the_latency_in_ticks() -> None:
    it = rig(delay=0.1)
    it.loop.run(5.0)
    later = it.asker.questions[-1]
    assert later.prefix is not None
    assert later.delay in (3, 4)  # 0.1 s, or with the tick at which it is noticed
    assert [question.reset for question in it.asker.questions[:2]] == [True, False]


@pytest.mark.parametrize("fault", ["killed", "stopped", "black hole"])
def test_without_the_server_the_robot_holds_still_within_two_ticks_of_the_end_of_the_queue(
    fault: str,
) -> None:
    it = rig()
    it.loop.run(2.0)
    commanded = len(it.robot.log)
    it.asker.frozen = True
    if fault == "killed":
        it.asker.cut()
    it.loop.run(3.0)
    assert it.loop.controller.state is State.HOLD
    (time, reason), *others = holds(it)
    assert reason == "the queue is empty"
    assert others == []
    # Ten actions at most are left, then braking: from 30 degrees a second in one tick.
    assert time - it.robot.times[commanded - 1] <= 11.5 * TICK
    still = [i for i, at in enumerate(it.robot.times) if at >= time + 2 * TICK]
    assert moved(it, still[0]) == 0.0
    assert it.broken_rules() == []
    assert max(np.diff(it.robot.times)) < 1.5 * TICK  # holding is commanded, at every tick


def test_a_stale_look_ends_in_a_hold_though_actions_are_left() -> None:
    it = rig(answer=lambda question: np.tile(wave(question)[-1], (100, 1)))
    it.loop.run(1.0)
    last = it.asker.questions[-1].look.taken
    it.asker.frozen = True
    it.loop.run(2.0)
    ((time, reason),) = holds(it)
    assert reason == "the last look is stale"
    assert time - it.robot.times[0] < 2.0
    assert 0.6 < time - min(last, time - 0.6) <= 0.6 + 3 * TICK + 0.1


@pytest.mark.parametrize("fault", ["killed", "stopped"])
def test_after_the_return_it_moves_again_on_a_new_look_alone(fault: str) -> None:
    it = rig()
    it.loop.run(1.0)
    it.asker.frozen = True
    if fault == "killed":
        it.asker.cut()
    it.loop.run(2.0)
    asked, returned = len(it.asker.questions), it.clock.now
    if fault == "killed":
        it.asker.mend()
    else:
        it.asker.time_out()
    it.asker.frozen = False
    it.loop.run(1.0)
    assert it.loop.controller.state is State.RUN
    fresh = it.asker.questions[asked]
    assert fresh.look.taken >= returned
    assert fresh.prefix is None
    begun = [event.time for event in it.loop.controller.history if event.state is State.RUN]
    assert begun[-1] - returned < 0.2
    assert it.broken_rules() == []


def test_an_answer_that_was_under_way_during_the_hold_moves_nothing() -> None:
    it = rig()
    it.loop.run(1.0)
    it.asker.frozen = True
    it.loop.run(0.5)
    before = len(it.robot.log)
    assert it.loop.controller.state is State.HOLD
    under_way = it.asker.questions[-1]
    it.asker.frozen = False  # the old question is answered now
    it.loop.run(2 * TICK)
    assert moved(it, before) == 0.0
    assert it.asker.questions[-1] is not under_way


def test_a_chunk_that_is_not_finite_is_not_carried_out() -> None:
    def broken(question: Question) -> np.ndarray:
        return np.where(np.arange(60).reshape(10, 6) == 33, np.nan, wave(question))

    it = rig(answer=broken)
    it.loop.run(1.0)
    assert it.loop.counts.rejected > 3
    assert moved(it, 0) == 0.0
    assert it.loop.controller.state is State.READY


@pytest.mark.parametrize("merge", ["rtc", "ensemble"])
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2])
def test_steps_stay_within_limits_with_any_delay_and_a_wild_policy(merge: str, delay: float) -> None:
    draw = np.random.default_rng(0)
    it = rig(merge=merge, delay=delay, answer=lambda question: draw.uniform(-300, 300, (10, 6)))
    it.loop.run(5.0)
    assert it.loop.counts.decisions > 10
    assert it.broken_rules() == []


def test_a_spike_of_a_second_is_survived_and_forgotten() -> None:
    it = rig()
    it.loop.run(2.0)
    it.asker.delay = 1.0
    it.loop.run(1.5)
    it.asker.delay = 0.05
    it.loop.run(3.0)
    assert it.loop.controller.state is State.RUN
    assert it.broken_rules() == []


def test_synchronous_execution_asks_when_all_is_done() -> None:
    it = rig(sync=True)
    it.loop.run(3.0)
    assert all(question.prefix is None for question in it.asker.questions)
    asked = np.diff([question.look.begin for question in it.asker.questions])
    assert set(asked[1:].tolist()) == {10}


def test_a_stuck_joint_ends_in_a_hold() -> None:
    it = rig(answer=lambda question: np.full((10, 6), 50.0))
    it.robot.stuck = True
    it.loop.run(1.5)
    assert (True, "a joint does not follow") in [(True, reason) for _, reason in holds(it)]
    assert it.broken_rules() == []


def test_a_robot_that_cannot_be_seen_is_braked_and_in_the_end_given_up() -> None:
    it = rig()
    it.loop.run(1.0)
    it.robot.gone = True
    it.loop.run(0.5)
    assert "no observation" in holds(it)[-1][1]
    assert max(np.diff(it.robot.times)) < 1.5 * TICK
    with pytest.raises(ConnectionError, match="the cable is out"):
        it.loop.run(1.0)


def test_a_policy_that_does_not_fit_moves_nothing() -> None:
    it = rig()
    it.asker._news = [Impossible(reason="fps: the policy's is 50, the robot's 30")]
    with pytest.raises(UserError, match="the policy's is 50"):
        it.loop.run(1.0)
    assert it.robot.log == []


def test_a_new_episode_begins_with_a_reset_and_from_a_new_look() -> None:
    it = rig()
    it.loop.run(1.0)
    asked = len(it.asker.questions)
    it.loop.begin_episode()
    it.loop.run(1.0)
    assert it.asker.questions[asked].reset
    assert not it.asker.questions[asked + 1].reset
    assert it.loop.controller.state is State.RUN


def test_a_tick_that_is_missed_is_not_made_up_for() -> None:
    it = rig()
    it.loop.run(1.0)
    ticks, it.loop.record = it.loop.counts.ticks, lambda frame: it.clock.sleep(0.5)
    it.loop.step()
    it.loop.record = None
    it.loop.run(1.0)
    assert it.loop.counts.ticks - ticks <= 32
    assert it.broken_rules() == []


def test_a_tick_counts_as_behind_by_as_much_as_it_begins_late() -> None:
    """Of 33.3 ms: one of 45 makes the next 11.7 late; one of 90 leaves one out, 56.7 late, the next 23.3."""
    for seconds, worst, late in ((0.045, 11.7, 0), (0.09, 56.7, 2)):
        it = rig()
        it.loop.record = lambda frame, seconds=seconds, it=it: it.clock.sleep(seconds)
        it.loop.run(0.5 * TICK)
        assert it.loop.behind.summary()["max_ms"] == pytest.approx(worst, abs=0.1)
        assert it.loop.counts.late == late
        assert it.loop.duration.summary()["max_ms"] == pytest.approx(1000 * seconds, abs=0.1)


def test_at_rest_it_brakes_and_asks_nothing_and_then_goes_on() -> None:
    it = rig()
    it.loop.run(1.0)
    asked, at = len(it.asker.questions), len(it.robot.log)
    it.loop.rest(1.0)
    assert len(it.asker.questions) == asked
    assert moved(it, at + 2) == 0.0
    assert it.loop.stands
    it.loop.begin_episode()
    it.loop.run(1.0)
    assert it.loop.controller.state is State.RUN
    assert it.broken_rules() == []
