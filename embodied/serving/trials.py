"""What a policy, a clock and a robot can do wrong at worst, drawn at random: for tests of the safety filter.

A joints, with ranges from `low` to `high`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = 8
"""Of a drawn chunk."""

HUGE = (np.nan, np.inf, -np.inf, 1e38, -1e38, 3.4e38, 1e300, 5e-324)


def smooth(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A straight motion between two places in the range."""
    begin, end = draw.uniform(low, high, (2, len(low)))
    return np.linspace(begin, end, STEPS)


def noise(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """White noise over three times the range."""
    return draw.uniform(2 * low - high, 2 * high - low, (STEPS, len(low)))


def ends(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Steps from one end of the range to the other."""
    return np.where(draw.random((STEPS, len(low))) < 0.5, low, high)


def huge(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Finite numbers that are far too large."""
    return draw.choice([1e38, -1e38, 1e300, -1e300, 0.0], (STEPS, len(low)))


def one_bad(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A smooth motion with one number that may not be finite."""
    chunk = smooth(draw, low, high)
    chunk[draw.integers(STEPS), draw.integers(len(low))] = draw.choice(HUGE)
    return chunk


def misshapen(draw: np.random.Generator, low: np.ndarray, high: np.ndarray) -> Any:
    """What is no chunk of this robot."""
    size = len(low)
    shapes = [(0, size), (STEPS, size - 1), (STEPS, size + 1), (size,), (1, STEPS, size)]
    others = [np.zeros(shape) for shape in shapes]
    return [*others, np.full((STEPS, size), "0"), None, [[0.0] * size]][draw.integers(8)]


WORST_CHUNKS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], Any]] = {
    "smooth": smooth,
    "noise": noise,
    "ends": ends,
    "huge": huge,
    "one_bad": one_bad,
    "misshapen": misshapen,
}


def any_step(draw: np.random.Generator, fps: int) -> float:
    """Seconds until the next tick: as it should be, uneven, far too long, or no time at all."""
    kind = draw.random()
    if kind < 0.5:
        return 1 / fps
    if kind < 0.9:
        return draw.uniform(0.2, 2.5) / fps
    return float(draw.choice([0.0, -1.0, np.nan, np.inf, 1e-9, 1e-6, 1e-4, 3.0]))


def nonsense(draw: np.random.Generator, commanded: np.ndarray) -> np.ndarray:
    """A measured position: mostly near the last command, sometimes anything."""
    kind = draw.random()
    if kind < 0.8:
        return commanded + draw.normal(0, 0.5, commanded.shape)
    if kind < 0.9:
        return commanded * draw.uniform(-3, 3)
    return np.full(commanded.shape, draw.choice(HUGE))
