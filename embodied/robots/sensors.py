"""What a robot reports of itself: readings taken at each tick, delivered late or with pictures lost.

The time, in seconds, is an argument. S size of the state; H, W picture size.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was so at one tick.

    tick, time: when; state: (S,) in the robot's own units; pictures: per camera (H, W, 3) uint8, in order;
    is_holding: whether no command moved the motors; is_success: whether the task was solved.
    """

    tick: int
    time: float
    state: np.ndarray
    pictures: Mapping[str, np.ndarray]
    is_holding: bool
    is_success: bool


class Sensors:
    """Keeps readings for as long as they may still be asked for."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._readings: deque[Reading] = deque()

    def keep(self, reading: Reading, lost: frozenset[str] = frozenset()) -> None:
        """Add a reading, newer than all others; of the cameras that are `lost`, the last picture is kept."""
        if lost and self._readings:
            last = self._readings[-1].pictures
            pictures = {name: last[name] if name in lost else new for name, new in reading.pictures.items()}
            reading = Reading(**{**vars(reading), "pictures": pictures})
        self._readings.append(reading)

    def latest(self, now: float, *, delay: float = 0.0) -> Reading:
        """Return the newest reading that is at least `delay` seconds old, or else the oldest.

        Raises:
            LookupError: there is none yet.
        """
        if not self._readings:
            raise LookupError("no reading yet")
        while len(self._readings) > 1 and self._readings[1].time <= now - delay:
            self._readings.popleft()
        return self._readings[0]
