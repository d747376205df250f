"""The last thing before the motors: whatever is put in, what comes out is finite and within the limits.

A chunk with one number that is not finite is rejected whole, when it arrives. At each tick the next action
becomes a command within every joint's range, velocity and acceleration, not too far from where the joint is,
and from which braking never takes the arm into itself. An action within all limits passes unchanged.

This is no certified safety function: it limits commands, it does not watch the motors that receive them.

H chunk steps, A joints.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embodied.errors import UserError
from embodied.serving.motion import Limits, Motion, advance, chase, reachable, stopping_positions
from embodied.serving.profiles import RobotProfile

LIMITS = ("position", "velocity", "acceleration", "tracking", "self_collision")
"""What can be turned off. That numbers are finite, and as many as joints, cannot."""

NO_LIMIT = 1e12
SHORTEST_STEP = 1e-6
"""Seconds; the quotient of two clock readings nearer than this says nothing."""

LONGEST_STEP = 1.5
"""In control steps. After a longer silence the arm has come to rest on the last command."""

STOPPING_SAMPLES = 5


class CollisionCheck(Protocol):
    """Knows where the robot would touch itself."""

    def penetration(self, positions: np.ndarray) -> float:
        """Metres by which parts of the robot at `positions` (A,) are too near to each other, 0 if none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a chunk is not used, in one line."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """action: (A,) float64 for the motors; flags: what kept it from being the action that was asked for.

    Flags are the names of LIMITS, and `not_finite`, `dimension`, `measurement` (the measured position cannot
    be used), `clock` (no time has passed, or backwards) and `gap` (too much has).
    """

    action: np.ndarray
    flags: tuple[str, ...] = ()


class SafetyFilter:
    """Keeps the motion of the commands of one robot: `start` once, then `command` or `hold` at every tick."""

    def __init__(
        self,
        profile: RobotProfile,
        *,
        off: Collection[str] = (),
        collisions: CollisionCheck | None = None,
    ) -> None:
        """off: names of LIMITS not to keep; collisions: None to look for none. UserError for a wrong name."""
        for name in off:
            if name not in LIMITS:
                raise UserError(f"--safety.off={name}: expected one of {', '.join(LIMITS)}")
        self.profile, self.off = profile, frozenset(off)
        self._collisions = None if "self_collision" in off else collisions
        self._size = len(profile.names)
        self._limits = Limits(
            low=self._column(profile.low, "position", -NO_LIMIT),
            high=self._column(profile.high, "position", NO_LIMIT),
            velocity=self._column(profile.max_velocity, "velocity", NO_LIMIT),
            acceleration=self._column(profile.max_acceleration, "acceleration", NO_LIMIT),
        )
        self._leash = self._column(profile.max_tracking_error, "tracking", np.inf)
        self._rest = None if profile.rest is None else np.array(profile.rest, np.float64)
        self._motion: Motion | None = None
        self._target = np.zeros(self._size)

    def _column(self, values: tuple[float, ...], limit: str, without: float) -> np.ndarray:
        given = np.full(self._size, without) if limit in self.off else np.array(values, np.float64)
        return np.minimum(given, without) if without > 0 else given

    def start(self, position: np.ndarray) -> None:
        """Begin, or begin again, standing still where the robot is, `position` (A,) as measured.

        A joint a little outside its range, as an arm at rest may hang, is brought back at limited speed.

        Raises:
            UserError: a position that is no number, or so far outside that the robot or its unit is another.
        """
        measured, _ = self._read(position)
        if measured is None:
            raise UserError(f"position {position!r}: expected {self._size} finite numbers")
        if self._rest is not None:
            measured = self._rest
        excess = np.maximum(self._limits.low - measured, measured - self._limits.high)
        excess -= np.minimum(self._leash, self._limits.high - self._limits.low)
        joint = int(np.argmax(excess))
        if excess[joint] > 0:
            low, high = self._limits.low[joint], self._limits.high[joint]
            raise UserError(
                f"{self.profile.names[joint]} is at {measured[joint]:.4g} {self.profile.units[joint]}: "
                f"expected {low:g} to {high:g}; move it there by hand, or correct the profile"
            )
        self._motion = Motion.at_rest(measured)
        self._target = measured

    def chunk(self, actions: np.ndarray) -> np.ndarray | Rejection:
        """The actions (H, A) as float64 if all of them are finite, or why none is used."""
        if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
            return Rejection(reason=f"a chunk of {type(actions).__name__}: expected an array of numbers")
        if actions.ndim != 2 or actions.shape[1] != self._size or not len(actions):
            return Rejection(reason=f"a chunk of shape {actions.shape}: expected (steps, {self._size})")
        if not np.isfinite(actions).all():
            step = int(np.argmin(np.isfinite(actions).all(axis=1)))
            return Rejection(reason=f"a chunk whose step {step} is not finite: expected finite numbers")
        return actions.astype(np.float64)

    def command(self, action: np.ndarray, position: np.ndarray, dt: float) -> Command:
        """The command nearest to `action` (A,) that may be sent.

        position: (A,) as measured now; dt: seconds since the command before. Brakes where one of them cannot
        be used. RuntimeError before `start`.
        """
        target, problem = self._read(action)
        if target is None:
            return self._stop(dt, problem)
        target = np.minimum(np.maximum(target, -NO_LIMIT), NO_LIMIT)
        measured, problem = self._read(position)
        if measured is None:
            return self._stop(dt, "measurement")
        flags: set[str] = set()
        if self._rest is None:
            target = self._bound(target, measured - self._leash, measured + self._leash, "tracking", flags)
        target = self._bound(target, self._limits.low, self._limits.high, "position", flags)
        return self._toward(target, dt, flags)

    def hold(self, dt: float) -> Command:
        """The command that comes to a stop as fast as the limits allow, and then stands still."""
        return self._stop(dt, None)

    def _read(self, numbers: np.ndarray) -> tuple[np.ndarray | None, str]:
        """The numbers (A,) as float64, or None and what is wrong with them."""
        if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "fiu":
            return None, "not_finite"
        if numbers.shape != (self._size,):
            return None, "dimension"
        return (numbers.astype(np.float64), "") if np.isfinite(numbers).all() else (None, "not_finite")

    @staticmethod
    def _bound(
        target: np.ndarray, low: np.ndarray, high: np.ndarray, limit: str, flags: set[str]
    ) -> np.ndarray:
        bounded = np.minimum(np.maximum(target, low), high)
        if (bounded != target).any():
            flags.add(limit)
        return bounded

    def _stop(self, dt: float, why: str | None) -> Command:
        flags = {why} if why else set()
        if self._rest is not None:
            return self._toward(self._rest, dt, flags)
        return self._toward(None, dt, flags)

    def _toward(self, target: np.ndarray | None, dt: float, flags: set[str]) -> Command:
        """One step towards `target` (A,), or of braking if it is None."""
        if self._motion is None:
            raise RuntimeError("the safety filter has not been started: expected start(position) first")
        motion = self._motion
        if not (np.isfinite(dt) and dt >= SHORTEST_STEP):
            return Command(action=motion.position.copy(), flags=(*sorted(flags), "clock"))
        if dt * self.profile.fps > LONGEST_STEP:
            flags.add("gap")
            dt, motion = 1 / self.profile.fps, Motion.at_rest(motion.position)
        between, still = reachable(motion, self._limits, dt), np.zeros(self._size)
        if target is not None:
            wanted = self._pursue(motion, target, dt)
            moved = advance(motion, wanted, between, self._limits, dt)
            flags |= self._limits_met(motion, wanted, between, dt)
            if self._collides(motion, moved):
                flags.add("self_collision")
                target = None
        if target is None:
            moved = advance(motion, still, between, self._limits, dt)
        self._motion, self._target = moved, moved.position if target is None else target
        return Command(action=moved.position.copy(), flags=tuple(sorted(flags)))

    def _pursue(self, motion: Motion, target: np.ndarray, dt: float) -> np.ndarray:
        """The velocity (A,) that would meet the target at the pace at which it moves."""
        pace = (target - self._target) / dt
        pace = np.minimum(np.maximum(pace, -self._limits.velocity), self._limits.velocity)
        return chase(motion, target, pace, self._limits, dt)

    def _limits_met(
        self, motion: Motion, wanted: np.ndarray, between: tuple[np.ndarray, np.ndarray], dt: float
    ) -> set[str]:
        """Which limits keep a motion from the velocity (A,) that was wanted."""
        slack = 1e-9 * (1 + np.abs(wanted))
        if not ((wanted > between[1] + slack) | (wanted < between[0] - slack)).any():
            return set()
        met = set()
        if (np.abs(wanted) > self._limits.velocity + slack).any():
            met.add("velocity")
        if (np.abs(wanted - motion.velocity) > self._limits.acceleration * dt + slack).any():
            met.add("acceleration")
        return met or {"position"}

    def _collides(self, motion: Motion, moved: Motion) -> bool:
        """Whether braking after `moved` would bring the robot nearer to itself than it is and may be."""
        if self._collisions is None:
            return False
        now = self._collisions.penetration(motion.position)
        path = stopping_positions(moved, self._limits.acceleration, STOPPING_SAMPLES)
        return any(self._collisions.penetration(positions) > now for positions in path)
