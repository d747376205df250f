"""Actions that wait for their tick, and chunks merged into them by what has been consumed meanwhile.

A chunk is decided from a look, and its first action is for the tick of that look. When it arrives, its first
actions are for ticks that have passed: as many are left out as have in fact been consumed since the look,
whatever the latency was thought to be. Nothing is consumed while the robot holds.

H chunk steps, P steps left, A joints.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ENSEMBLE_DECAY = 0.01
"""Of the weight of a later prediction for the same tick against an earlier one, as in ACT."""

WARM_UP = 1
WINDOW = 10
"""Latencies: the first says how long loading and compiling take; of the later ones so many count."""


ROUNDING = 1e-6
"""In ticks: a latency of exactly three is not four."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """actions: (H, A), the first for the tick at which `begin` actions had been consumed."""

    actions: np.ndarray
    begin: int

    def at(self, tick: int) -> np.ndarray | None:
        """The action (A,) for a tick, None if it is none of this chunk's."""
        return self.actions[tick - self.begin] if 0 <= tick - self.begin < len(self.actions) else None


def latest(predictions: list[np.ndarray]) -> np.ndarray:
    """The newest prediction (A,) for a tick: real-time chunking has made it continue the one before."""
    return predictions[-1]


def ensemble(predictions: list[np.ndarray]) -> np.ndarray:
    """The mean (A,) of all predictions for a tick, the oldest weighing most (ACT, arXiv 2304.13705)."""
    weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(predictions)))
    return np.average(predictions, axis=0, weights=weights)


MERGES: dict[str, Callable[[list[np.ndarray]], np.ndarray]] = {"rtc": latest, "ensemble": ensemble}


class ActionQueue:
    """What to do at the coming ticks. consumed: how many actions have been taken since the start."""

    def __init__(self, merge: Callable[[list[np.ndarray]], np.ndarray]) -> None:
        """merge: a value of MERGES."""
        self._merge = merge
        self._chunks: deque[Chunk] = deque()
        self.consumed = 0

    def add(self, chunk: Chunk) -> bool:
        """Merge a chunk; returns whether any of its actions is still to come."""
        is_newest = not self._chunks or chunk.begin >= self._chunks[-1].begin
        if not is_newest or chunk.at(max(self.consumed, chunk.begin)) is None:
            return False
        self._chunks.append(chunk)
        return True

    def __len__(self) -> int:
        """For how many ticks there are actions."""
        if not self._chunks:
            return 0
        return max(0, self._chunks[-1].begin + len(self._chunks[-1].actions) - self.consumed)

    def left(self) -> np.ndarray:
        """The actions (P, A) of the coming ticks, as they are planned now."""
        planned = [self._at(self.consumed + step) for step in range(len(self))]
        return np.array([action for action in planned if action is not None])

    def take(self) -> np.ndarray | None:
        """The action (A,) for this tick, which is then consumed; None if there is none."""
        action = self._at(self.consumed) if len(self) else None
        if action is not None:
            self.consumed += 1
            while len(self._chunks) > 1 and self._chunks[0].at(self.consumed) is None:
                self._chunks.popleft()
        return action

    def clear(self) -> None:
        """Forget all actions that have not been consumed."""
        self._chunks.clear()

    def _at(self, tick: int) -> np.ndarray | None:
        """The merged action (A,) for a tick; None if the newest chunk has none for it."""
        predictions = [action for chunk in self._chunks if (action := chunk.at(tick)) is not None]
        return self._merge(predictions) if predictions else None


class Latency:
    """How long decisions take, from look to arrival: the longest of the last few, without the warm-up.

    Until there is another one, the warm-up is all that is known: to ask too early does no harm.
    """

    def __init__(self) -> None:
        self._warm_up: list[float] = []
        self._window: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float) -> None:
        """Note one."""
        (self._warm_up if len(self._warm_up) < WARM_UP else self._window).append(seconds)

    def steps(self, fps: float) -> int:
        """How many ticks will pass before a decision that is asked for now arrives; 0 if nothing is known."""
        return math.ceil(max(self._window or self._warm_up, default=0.0) * fps - ROUNDING)
