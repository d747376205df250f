"""What the logs of one episode prove: pure functions of the rows of a motor log and of a tick log.

Motor rows are those of `embodied.robots.body.MotorLog` since the scene was reset for the episode, tick rows
those of `embodied.serving.tick_log.TickLog`. Both carry times of the same clock, in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from embodied.serving.motor_log import violations
from embodied.serving.profiles import RobotProfile

Row = dict[str, Any]

COMMANDED = ("run", "degraded")
HOLD, END = "hold", "end"
UNLOGGED = 3
"""Ticks that a killed loop may not have written down, though it has sent their commands."""

SETTLED_TICKS = 2
"""After which, on top of the time that braking takes, a robot that holds gets the same command for ever."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A hold. time: when its first command was made; seconds, ticks: since the queue was empty or the look
    stale, whichever came first, None where it held for another reason.
    """

    time: float
    reason: str
    seconds: float | None
    ticks: int | None


# --- commands -------------------------------------------------------------------------------------


def command_problems(profile: RobotProfile, motors: Sequence[Row], ticks: Sequence[Row]) -> list[str]:
    """What is wrong with the commands that reached the motors, a line each; empty if nothing is.

    Each has to be the one that came out of the safety filter at the tick of its number, and what the motors
    followed has to be one of them. That they are finite and within the profile's limits is computed anew,
    from what the motors got and the times at which that was sent.
    """
    came = [row for row in motors if row["event"] == "command"]
    made = [row for row in ticks if row["event"] == "tick"]
    if not came:
        return ["no command reached the motors"]
    first = next(row for row in motors if row["event"] == "tick")
    times = [_sent(row["sequence"] - 1, made) for row in came]
    steps = np.diff([times[0] - 1 / profile.fps, *times])
    return [
        *_strangers(came, made),
        *_followed_wrongly(motors, came),
        *violations(profile, _numbers(first["position"]), steps.tolist(), _column(came, "target")),
    ]


def _strangers(came: Sequence[Row], made: Sequence[Row]) -> list[str]:
    for row in came:
        place = row["sequence"] - 1
        is_known = place < len(made) and row["target"] == made[place]["command"]
        if not is_known and not len(made) <= place < len(made) + UNLOGGED:
            return [f"command {place} did not come out of the safety filter"]
    return []


def _followed_wrongly(motors: Sequence[Row], came: Sequence[Row]) -> list[str]:
    targets = {row["sequence"]: row["target"] for row in came}
    for row in motors:
        if row["event"] != "tick" or row["source"] == HOLD:
            continue
        if row["source"] != "command" or targets.get(row["sequence"]) != row["target"]:
            return [f"the motors followed what nobody commanded at tick {row['tick']} ({row['source']})"]
    return []


def _sent(place: int, made: Sequence[Row]) -> float:
    """When the command of a tick was sent; of one that was not written down, when its turn was."""
    if place < len(made):
        return made[place]["sent"]
    last, before = (made[-1]["sent"], made[-2]["sent"]) if len(made) > 1 else (0.0, 0.0)
    return last + (place - len(made) + 1) * (last - before)


def restlessness(profile: RobotProfile, ticks: Sequence[Row]) -> list[str]:
    """A line if the loop commanded a motion while no policy was in charge, once there was time to brake."""
    braking = np.array(profile.max_velocity) / np.array(profile.max_acceleration)
    settling = float(np.max(braking[np.isfinite(braking)], initial=0.0)) + SETTLED_TICKS / profile.fps
    since, held = None, None
    for row in ticks:
        if row["event"] != "tick" or row["state"] in COMMANDED:
            since, held = None, None
            continue
        since = row["sent"] if since is None else since
        if row["sent"] - since <= settling:
            continue
        held = row["command"] if held is None else held
        if row["command"] != held:
            return [f"it moved in state {row['state']}, {row['sent'] - since:.2f} s after that began"]
    return []


# --- times ----------------------------------------------------------------------------------------


def find_hold(ticks: Sequence[Row], since: float) -> Hold | None:
    """The first hold that begins at `since` or later."""
    (begin,) = [row for row in ticks if row["event"] == "start"][:1]
    made = [row for row in ticks if row["event"] == "tick"]
    for place, (before, row) in enumerate(pairwise(made), start=1):
        if row["time"] >= since and row["state"] == HOLD and before["state"] in COMMANDED:
            return _hold(made[: place + 1], begin["stale"])
    return None


def _hold(made: Sequence[Row], stale: float) -> Hold:
    """The hold that the last of the ticks begins, in the light of those before."""
    *before, row = made
    dues = [before[-1]["looked"] + stale]
    for earlier in reversed(before):
        if earlier["state"] not in COMMANDED or earlier["left"]:
            break
        dues.append(earlier["time"])
    dues = [due for due in dues if due <= row["time"]]
    due = min(dues, default=None)
    return Hold(
        time=row["sent"],
        reason=row["reason"],
        seconds=None if due is None else row["sent"] - due,
        ticks=None if due is None else sum(due < one["time"] for one in made),
    )


def find_run(ticks: Sequence[Row], since: float) -> float | None:
    """When the first command by the policy's decision was sent after `since`; None if none was."""
    sent = (row["sent"] for row in ticks if row["event"] == "tick" and row["state"] == "run")
    return next((time for time in sent if time >= since), None)


def robot_hold(motors: Sequence[Row], since: float, until: float = np.inf) -> float | None:
    """Seconds from `since` until the robot itself held, for the rest of the time; None if it did not."""
    ticks = [row for row in motors if row["event"] == "tick" and since <= row["time"] < until]
    commanded = [place for place, row in enumerate(ticks) if row["source"] == "command"]
    after = ticks[commanded[-1] + 1 if commanded else 0 :]
    return after[0]["time"] - since if after else None


def states(ticks: Sequence[Row], origin: float) -> list[tuple[float, str]]:
    """When each state began, in seconds from `origin`, in order, and its name; then when the log ends."""
    made = [row for row in ticks if row["event"] == "tick"]
    found: list[tuple[float, str]] = []
    for row in made:
        if not found or found[-1][1] != row["state"]:
            found.append((round(row["time"] - origin, 3), row["state"]))
    return [*found, (round(made[-1]["time"] - origin, 3), END)] if made else []


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    """(T, A) numbers of rows; what a log could not write as a number is none."""
    return np.array([_numbers(row[name]) for row in rows])


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)
