"""Intervals for success counts (Wilson, 1927) and summaries of episode rows."""

from math import sqrt
from statistics import NormalDist

import numpy as np


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate.

    Unlike the normal approximation it stays inside [0, 1] and has a width at 0 % and at 100 %.
    successes, episodes: counts; confidence: two-sided coverage in (0, 1).
    Returns (low, high) in [0, 1]. Raises ValueError unless 0 <= successes <= episodes and episodes >= 1.
    """
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes in {episodes} episodes: expected 0 <= successes <= episodes")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / episodes
    denominator = 1 + z**2 / episodes
    centre = (rate + z**2 / (2 * episodes)) / denominator
    half = z * sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2)) / denominator
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == episodes else min(1.0, centre + half)
    return low, high


def success_counts(successes: int, episodes: int) -> dict[str, float]:
    """`successes`, `episodes`, `success_rate` and the interval of 95 %, `wilson_low` and `wilson_high`."""
    low, high = wilson_interval(successes, episodes)
    return {
        "successes": successes,
        "episodes": episodes,
        "success_rate": successes / episodes,
        "wilson_low": low,
        "wilson_high": high,
    }


def percentiles_ms(seconds: list[float]) -> dict[str, float | None]:
    """Median and 95th percentile of durations, seconds in, milliseconds out; None of an empty list."""
    if not seconds:
        return {"p50": None, "p95": None}
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}
