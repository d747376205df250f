"""The motors' side of the cable: which target they follow now, and a watchdog that makes them hold.

Nothing in here reads a clock: the time, in seconds, is an argument. A action size.
"""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

WATCHDOG_SECONDS = 0.12
"""A robot holds when no command has come for this long: less than 200 ms, with ticks to spare."""

Source = Literal["command", "hold", "refused"]


@dataclass(frozen=True, kw_only=True)
class MotorTarget:
    """What the motors follow in one tick.

    target: (A,); source: `command`, `hold` (no command is fresh) or `refused` (not finite; they hold);
    sequence: number of the command that counts, -1 before the first.
    """

    target: np.ndarray
    source: Source
    sequence: int


@dataclass(frozen=True, kw_only=True)
class _Command:
    due: float
    sequence: int
    target: np.ndarray


class Motors:
    """Follows the newest command that is due; without a fresh one, holds the position it then had."""

    def __init__(self, *, watchdog_seconds: float = WATCHDOG_SECONDS) -> None:
        """Begin without a command. watchdog_seconds: how long one stays fresh."""
        if not 0 < watchdog_seconds <= 10:
            raise ValueError(f"--robot.watchdog={watchdog_seconds}: expected above 0, at most 10 seconds")
        self._watchdog_seconds = watchdog_seconds
        self.release()

    def release(self) -> None:
        """Forget all commands, as when who sent them is gone: hold from the next tick on."""
        self._waiting: deque[_Command] = deque()
        self._latest: _Command | None = None
        self._held: np.ndarray | None = None

    def receive(self, sequence: int, target: np.ndarray, now: float, *, delay: float = 0.0) -> None:
        """Take a command (A,), which counts `delay` seconds from now."""
        self._waiting.append(_Command(due=now + delay, sequence=sequence, target=target))

    def follow(self, position: np.ndarray, now: float) -> MotorTarget:
        """Return what to follow at this tick, for a robot whose joints are at `position`, (A,)."""
        while self._waiting and self._waiting[0].due <= now:
            self._latest = self._waiting.popleft()
        latest = self._latest
        sequence = -1 if latest is None else latest.sequence
        if latest is not None and now - latest.due <= self._watchdog_seconds:
            if np.isfinite(latest.target).all():
                self._held = None
                return MotorTarget(target=latest.target, source="command", sequence=sequence)
            return MotorTarget(target=self._hold(position), source="refused", sequence=sequence)
        return MotorTarget(target=self._hold(position), source="hold", sequence=sequence)

    def _hold(self, position: np.ndarray) -> np.ndarray:
        if self._held is None:
            self._held = position.copy()
        return self._held
