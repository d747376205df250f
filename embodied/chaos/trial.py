"""One repetition: an episode, a fault in its middle, the fault's end, and what the logs say of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied.chaos.checks import (
    Hold,
    Row,
    command_problems,
    find_hold,
    find_run,
    restlessness,
    robot_hold,
    states,
)
from embodied.chaos.faults import FAULTS, FLAG, HOLD, RESUME, ROBOT, Fault
from embodied.chaos.relay import LOOPBACK, Relay
from embodied.chaos.stage import Client, Stage, Tail, poll
from embodied.errors import UserError
from embodied.serving.profiles import RobotProfile

BARS = {"hold_ticks": 2, "hold_ms": 100.0, "resume_s": 2.0, "robot_hold_ms": 200.0}
"""What may not be exceeded; see `embodied.chaos.faults` for which fault has which."""

EARLIEST, LATEST = 1.0, 4.0
"""Seconds of an episode's motion before the fault."""

LONGEST_DWELL = 4.0
"""Seconds between the hold and the fault's end, at most: all stages of trying to connect anew are met."""

START_SECONDS = 120.0
WAITING_SECONDS = 15.0
"""For what should take a tenth of that; then it has not happened."""

AFTER_SECONDS = 0.7
"""Of motion after the fault, so that its logs have that too."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Seconds: from the first decision to the fault, and from the hold to the fault's end, where a fault ends
    after a hold.
    """

    at: float
    dwell: float


@dataclass(frozen=True, kw_only=True)
class Course:
    """When what happened: the fault struck, and was undone, and the server was ready; None: never."""

    struck: float
    mended: float | None = None
    ready: float | None = None


def draw_moment(seed: int, name: str, repetition: int) -> Moment:
    """The moment of a repetition, the same whatever else is tried."""
    draw = np.random.default_rng([seed, list(FAULTS).index(name), repetition])
    at, dwell = draw.uniform([EARLIEST, 0.0], [LATEST, LONGEST_DWELL])
    return Moment(at=round(float(at), 3), dwell=round(float(dwell), 3))


def try_fault(
    stage: Stage,
    name: str,
    moment: Moment,
    settings: Mapping[str, Any],
    profile: RobotProfile,
    folder: Path,
) -> tuple[Row, Mapping[str, list[Row]]]:
    """Run an episode with a fault; returns its row and the logs, by name.

    settings: flags of `embodied run`, without the server's; folder: an empty one for what it writes.
    """
    fault = FAULTS[name]
    stage.ensure_server()
    motors = Tail(stage.robot.process.log)
    port = stage.server.port
    if fault.is_remote:
        stage.relay = Relay(port)
        port = stage.relay.port
    stage.client = Client(folder, {**settings, "server": {"url": f"ws://{LOOPBACK}:{port}"}})
    try:
        course = _enact(stage, fault, moment, port)
        exit_code = stage.client.end(is_asked=fault.exit_code == 0)
    finally:
        stage.client.kill()
        if fault.is_remote:
            stage.relay.close()
    logs = {"motors": _since_reset(motors.rows()), "ticks": stage.client.ticks.rows()}
    findings = judge(fault, course, logs, stage.client.result(), profile)
    if exit_code != fault.exit_code:
        said = stage.client.last_line()
        findings["problems"].append(f"exit code {exit_code}: expected {fault.exit_code}: {said}")
    return {"fault": name, **asdict(moment), **findings, "exit_code": exit_code}, logs


def _enact(stage: Stage, fault: Fault, moment: Moment, port: int) -> Course:
    """Let the fault happen. UserError if the episode does not even begin."""
    client = stage.client
    if _until(client, lambda: find_run(client.ticks.rows(), 0.0), START_SECONDS) is None:
        raise UserError(f"`embodied run` does not get to run: {client.last_line()}")
    time.sleep(moment.at)
    _until(client, lambda: client.ticks.rows()[-1]["state"] == "run" or None, WAITING_SECONDS)
    struck = time.monotonic()
    fault.strike(stage)
    if fault.seconds is None:
        _until(client, lambda: find_hold(client.ticks.rows(), struck), WAITING_SECONDS)
        time.sleep(moment.dwell)
    else:
        stale = client.ticks.rows()[0]["stale"]
        time.sleep(max(fault.seconds, stale + AFTER_SECONDS))
    if fault.mend is None:
        return Course(struck=struck)
    mended = time.monotonic()
    fault.mend(stage)
    ready = stage.server.ready(port)
    if fault.exit_code == 0:
        _until(client, lambda: _resumption(client.ticks.rows(), struck, ready), WAITING_SECONDS)
        time.sleep(AFTER_SECONDS)
    return Course(struck=struck, mended=mended, ready=ready)


def _until[T](client: Client, found: Callable[[], T | None], seconds: float) -> T | None:
    """What is found, unless the client ends before, or `seconds` have passed."""

    def attempt() -> tuple[T | None] | None:
        value = found()
        return (value,) if value is not None or not client.is_alive else None

    outcome = poll(attempt, seconds)
    return None if outcome is None else outcome[0]


def _resumption(ticks: list[Row], struck: float, ready: float) -> float | None:
    """Seconds from the server's return until the policy's commands are sent again."""
    hold = find_hold(ticks, struck)
    time_of_run = find_run(ticks, ready if hold is None else max(ready, hold.time))
    return None if time_of_run is None else time_of_run - ready


def _since_reset(motors: list[Row]) -> list[Row]:
    """The rows of this episode: the client resets the scene before it commands anything."""
    places = [place for place, row in enumerate(motors) if row["event"] == "reset"]
    return motors[places[0] :] if places else motors


# --- judgement ------------------------------------------------------------------------------------


def judge(
    fault: Fault,
    course: Course,
    logs: Mapping[str, list[Row]],
    result: Mapping[str, Any] | None,
    profile: RobotProfile,
) -> dict[str, Any]:
    """What the logs and the result of `embodied run` say: measures, and `problems`, empty if all bars hold.

    Returns `hold_ms`, `hold_ticks`, `hold_reason`, `resume_s`, `robot_hold_ms`, `interrupted` (None where a
    fault leaves none), `commands` (that reached the motors), `states` and `problems`.
    """
    ticks, motors = logs["ticks"], logs["motors"]
    hold = find_hold(ticks, course.struck)
    timed = hold if HOLD in fault.bars else None  # a loop that was frozen was late for a reason
    found: dict[str, Any] = {
        "hold_ms": None if timed is None or timed.seconds is None else 1000 * timed.seconds,
        "hold_ticks": None if timed is None else timed.ticks,
        "hold_reason": None if hold is None else hold.reason,
        "resume_s": None,
        "robot_hold_ms": None,
        "interrupted": None if result is None else result["episodes"][0]["outcome"] == "interrupted",
        "commands": sum(row["event"] == "command" for row in motors),
        "states": states(ticks, course.struck),
    }
    if RESUME in fault.bars and course.ready is not None:
        found["resume_s"] = _resumption(ticks, course.struck, course.ready)
    if ROBOT in fault.bars:
        seconds = robot_hold(motors, course.struck, course.mended or np.inf)
        found["robot_hold_ms"] = None if seconds is None else 1000 * seconds
    problems = [*command_problems(profile, motors, ticks), *restlessness(profile, ticks)]
    return {**found, "problems": problems + _broken_bars(fault, hold, found, ticks)}


def _broken_bars(fault: Fault, hold: Hold | None, found: Mapping[str, Any], ticks: list[Row]) -> list[str]:
    broken = []
    if HOLD in fault.bars and hold is None:
        broken.append("it did not hold")
    measured = {HOLD: ("hold_ms", "hold_ticks"), RESUME: ("resume_s",), ROBOT: ("robot_hold_ms",)}
    for bar, names in measured.items():
        for name in names if bar in fault.bars else ():
            value = found[name]
            if value is not None and value > BARS[name]:
                broken.append(f"{name} {value:.3g}: expected at most {BARS[name]:g}")
            if value is None and bar != HOLD:
                broken.append({RESUME: "it did not run again", ROBOT: "the robot did not hold"}[bar])
    if FLAG in fault.bars and not found["interrupted"]:
        broken.append("the episode is not marked as interrupted")
    held = any(state == "hold" for _, state in found["states"])
    if found["interrupted"] is not None and found["interrupted"] != held:
        broken.append(f"marked as interrupted: {found['interrupted']}, but it held: {held}")
    return broken
