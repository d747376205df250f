"""The fastest way to a target that never has to break a limit, of all joints at once.

A joint whose command moves at v can still stop before its limit if the way left is at least v² / 2a. As the
speed falls before each step, and not after it, that way suffices whatever the lengths of the steps to come:
their sum lies below the area under the line of deceleration. So it is kept at every step, and braking is
always possible; this is the classic discrete stopping law (as in Haschke et al., IROS 2008).

A joints; dt seconds since the command before.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Limits:
    """low, high, velocity and acceleration: (A,) each, all finite."""

    low: np.ndarray
    high: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Motion:
    """position, velocity: (A,) each, of the last command."""

    position: np.ndarray
    velocity: np.ndarray

    @classmethod
    def at_rest(cls, position: np.ndarray) -> "Motion":
        """Standing still at `position` (A,)."""
        return cls(position=position.copy(), velocity=np.zeros_like(position))


def stopping_speed(distance: np.ndarray, acceleration: np.ndarray, dt: float) -> np.ndarray:
    """Highest speed (A,) at which a step of dt can be made and the joint still stops within `distance` >= 0.

    The positive root of v dt + v² / 2a = distance, in the form without cancellation.
    """
    change = acceleration * dt
    return 2 * acceleration * distance / (change + np.sqrt(change**2 + 2 * acceleration * distance))


def chase(
    motion: Motion, target: np.ndarray, target_velocity: np.ndarray, limits: Limits, dt: float
) -> np.ndarray:
    """Velocity (A,) that meets a moving target (A,) without overshoot, as far as its pace lasts.

    A target that the joint is on already, and that moves within the limits, is followed exactly.
    """
    behind = target - motion.position - target_velocity * dt
    return target_velocity + np.sign(behind) * stopping_speed(np.abs(behind), limits.acceleration, dt)


def reachable(motion: Motion, limits: Limits, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest velocity (A,) of the next step within every limit; the way to stop is between them.

    A joint outside its range can stand still or come back, not go further out.
    """
    change = limits.acceleration * dt
    up = stopping_speed(np.maximum(limits.high - motion.position, 0), limits.acceleration, dt)
    down = stopping_speed(np.maximum(motion.position - limits.low, 0), limits.acceleration, dt)
    slowest = np.maximum(np.maximum(-limits.velocity, motion.velocity - change), -down)
    fastest = np.minimum(np.minimum(limits.velocity, motion.velocity + change), up)
    return slowest, fastest


def advance(
    motion: Motion, velocity: np.ndarray, between: tuple[np.ndarray, np.ndarray], limits: Limits, dt: float
) -> Motion:
    """The motion after one step of dt > 0, as near to `velocity` (A,) as lies `between` what is reachable."""
    velocity = np.minimum(np.maximum(velocity, between[0]), between[1])
    position = motion.position + velocity * dt
    # What rounding has added is taken off.
    low, high = np.minimum(limits.low, motion.position), np.maximum(limits.high, motion.position)
    return Motion(position=np.minimum(np.maximum(position, low), high), velocity=velocity)


def stopping_positions(motion: Motion, acceleration: np.ndarray, count: int) -> np.ndarray:
    """Positions (count, A) on the way to a stop, from that of `motion` to where all joints stand."""
    times = np.abs(motion.velocity) / acceleration
    moved = np.minimum(np.linspace(0, times.max(), count)[:, None], times)
    return motion.position + motion.velocity * moved - np.sign(motion.velocity) * acceleration * moved**2 / 2
