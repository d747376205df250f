"""Did the motors ever get a command that they should not have? Read from what they got, not from the filter.

T commands, A joints.
"""

from collections.abc import Sequence

import numpy as np

from embodied.serving.profiles import RobotProfile
from embodied.serving.safety import LONGEST_STEP, SHORTEST_STEP

ROUNDING = 1e-9
"""How much of a joint's unit a difference of two commands may be off."""


def violations(
    profile: RobotProfile, start: np.ndarray, steps: Sequence[float], commands: np.ndarray
) -> list[str]:
    """What is wrong with a log, a line each, empty if nothing is.

    start: (A,) where the robot stood; steps: (T,) seconds since the command before; commands: (T, A).

    Every command has to be finite, in range (or nearer to it than the one before, if the robot began outside)
    and within velocity and acceleration. As for the filter, a silence of more than `LONGEST_STEP` counts as
    rest, and the step after it as one of usual length; without a usable time only the last command may come.
    """
    dts = np.asarray(steps, np.float64)
    if not np.isfinite(commands).all():
        return [f"command {int(np.argmin(np.isfinite(commands).all(axis=1)))} is not finite"]
    path = np.concatenate([start[None], commands])
    timed = np.isfinite(dts) & (dts >= SHORTEST_STEP)
    found = _first("is new without a step of time", np.diff(path, axis=0)[~timed] != 0)
    path, dts = np.concatenate([start[None], commands[timed]]), dts[timed]
    if not len(dts):
        return found
    outside = np.maximum(np.maximum(np.array(profile.low) - path, path - np.array(profile.high)), 0)
    found += _first("leaves its range", np.diff(outside, axis=0) > 0)
    rested = dts * profile.fps > LONGEST_STEP
    dt = np.where(rested, 1 / profile.fps, dts)[:, None]
    velocity = np.diff(path, axis=0) / dt
    before = np.concatenate([np.zeros_like(velocity[:1]), velocity[:-1]])
    before[rested] = 0
    noise = ROUNDING / dt
    found += _first("is too fast", np.abs(velocity) > np.array(profile.max_velocity) + noise)
    change = np.array(profile.max_acceleration) * dt + noise + np.roll(noise, 1, axis=0)
    return found + _first("is too sudden", np.abs(velocity - before) > change)


def _first(what: str, wrong: np.ndarray) -> list[str]:
    """One line about the first row of `wrong`, (T, A) bool, that has any."""
    rows = wrong.any(axis=1)
    return [f"command {int(rows.argmax())} {what}"] if rows.any() else []
