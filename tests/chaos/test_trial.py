"""When a repetition keeps the bars, and when it does not."""

from typing import Any

import pytest

from embodied.chaos.faults import DEFAULT, FAULTS, chosen_faults
from embodied.chaos.trial import EARLIEST, LATEST, LONGEST_DWELL, Course, draw_moment, judge
from embodied.errors import UserError
from embodied.serving.profiles import PROFILES
from tests.chaos.logs import BEGIN, TICK, motor_log, motor_tick, tick_log

INTERRUPTED = {"episodes": [{"outcome": "interrupted"}]}
UNDISTURBED = {"episodes": [{"outcome": "undisturbed"}]}
LETTERS = "rrrr" + "h" * 6 + "rrr" + "ss"
LEFT = [3, 2, 1, 0] + [0] * 6 + [9] * 3 + [0, 0]
STRUCK = BEGIN + 1.5 * TICK
READY = BEGIN + 8.5 * TICK


def judged(
    name: str = "server_killed",
    letters: str = LETTERS,
    left: list[int] | None = None,
    result: dict[str, Any] | None = INTERRUPTED,
    ready: float = READY,
) -> dict[str, Any]:
    ticks = tick_log(letters, left=LEFT if left is None else left)
    course = Course(struck=STRUCK, mended=ready, ready=ready)
    logs = {"motors": motor_log(ticks), "ticks": ticks}
    return judge(FAULTS[name], course, logs, result, PROFILES["so101"])


def test_an_episode_that_holds_in_time_and_goes_on_keeps_all_bars() -> None:
    found = judged()
    assert found["problems"] == []
    assert found["hold_ms"] == pytest.approx(1000 * TICK + 2)
    assert found["hold_ticks"] == 1
    assert found["resume_s"] == pytest.approx(1.5 * TICK + 0.002)
    assert found["robot_hold_ms"] is None
    assert found["commands"] == len(LETTERS)


def test_a_hold_that_comes_late_breaks_the_bar() -> None:
    found = judged(left=[1, 0, 0, 0] + [0] * 6 + [9] * 3 + [0, 0])
    assert found["problems"] == [
        "hold_ms 102: expected at most 100",
        "hold_ticks 3: expected at most 2",
    ]


def test_an_arm_that_never_holds_breaks_the_bar() -> None:
    found = judged(letters="r" * 15, left=[9] * 15, result=UNDISTURBED)
    assert found["problems"] == ["it did not hold", "the episode is not marked as interrupted"]


def test_an_arm_that_never_runs_again_breaks_the_bar() -> None:
    found = judged(letters="rrrr" + "h" * 11, left=[3, 2, 1, 0] + [0] * 11)
    assert found["problems"] == ["it did not run again"]


def test_running_again_too_late_breaks_the_bar() -> None:
    assert judged(ready=READY - 2.1)["problems"] == ["resume_s 2.15: expected at most 2"]


def test_an_episode_that_is_not_marked_breaks_the_bar() -> None:
    assert judged(result=UNDISTURBED)["problems"] == [
        "the episode is not marked as interrupted",
        "marked as interrupted: False, but it held: True",
    ]


def test_a_killed_client_leaves_the_robot_to_hold() -> None:
    ticks = tick_log("rrr")
    motors = motor_log(ticks)
    course = Course(struck=motors[-1]["time"])
    logs = {"motors": motors, "ticks": ticks}

    def held_after(seconds: float) -> dict[str, Any]:
        tick = motor_tick(9, motors[-1]["time"] + seconds, "hold", 3, [0.0] * 6)
        more = {**logs, "motors": [*motors, tick]}
        return judge(FAULTS["client_killed"], course, more, None, PROFILES["so101"])

    assert held_after(0.15)["problems"] == []
    assert held_after(0.15)["robot_hold_ms"] == pytest.approx(150)
    assert held_after(0.25)["problems"] == ["robot_hold_ms 250: expected at most 200"]
    found = judge(FAULTS["client_killed"], course, logs, None, PROFILES["so101"])
    assert found["problems"] == ["the robot did not hold"]


def test_moments_depend_on_seed_fault_and_number_alone() -> None:
    moments = [draw_moment(seed, name, n) for seed in (0, 1) for name in DEFAULT for n in range(5)]
    assert len(set(moments)) == len(moments)
    assert draw_moment(1, "black_hole", 3) == draw_moment(1, "black_hole", 3)
    assert all(EARLIEST <= moment.at <= LATEST for moment in moments)
    assert all(0 <= moment.dwell <= LONGEST_DWELL for moment in moments)


def test_faults_are_chosen_by_name() -> None:
    assert chosen_faults("black_hole, latency,black_hole") == ["black_hole", "latency"]
    assert chosen_faults("all") == list(FAULTS)
    for text in ("fire", ""):
        with pytest.raises(UserError, match=f"--faults={text}: expected some of server_killed, "):
            chosen_faults(text)
