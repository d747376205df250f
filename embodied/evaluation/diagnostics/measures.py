"""The numbers that diagnostics come down to: rank correlation, explained variance, separation, intervals.

Pure functions of arrays. N samples, P and M samples of two kinds, D coordinates.
"""

from collections.abc import Callable

import numpy as np

CONFIDENCE = 0.95


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank of each value, from 1 on; equal values share the mean of their ranks. (N,) -> (N,)."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two (N,); NaN where one of them is constant."""
    first, second = (ranks(values) - (len(values) + 1) / 2 for values in (one, other))
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm else float("nan")


def auroc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Share of pairs (P, M) in which the positive is the larger, ties counting half: 0.5 is chance."""
    if not len(positives) or not len(negatives):
        raise ValueError(f"{len(positives)} positives and {len(negatives)} negatives: expected some of both")
    placed = ranks(np.concatenate([positives, negatives]))[: len(positives)]
    return float((placed.sum() / len(positives) - (len(positives) + 1) / 2) / len(negatives))


def r_squared(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """1 - squared error over variance, per coordinate: (N, D) twice -> (D,); NaN for a constant target."""
    error = ((target - predicted) ** 2).sum(0)
    spread = ((target - target.mean(0)) ** 2).sum(0)
    return np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), np.nan)


def bootstrap(
    statistic: Callable[[np.ndarray], float | np.ndarray], count: int, *, seed: int, resamples: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval (95 %) of a statistic over `count` units that are drawn again with replacement.

    statistic: from indices (count,) to a number or an array. Returns low and high, of the same shape.
    """
    generator = np.random.default_rng(seed)
    draws = np.stack([np.asarray(statistic(generator.integers(count, size=count))) for _ in range(resamples)])
    tail = 100 * (1 - CONFIDENCE) / 2
    known = ~np.isnan(draws).all(0)
    ends = np.full((2, *draws.shape[1:]), np.nan)
    ends[:, known] = np.nanpercentile(draws[:, known], [tail, 100 - tail], axis=0)
    return ends[0], ends[1]
