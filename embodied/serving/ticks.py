"""How punctual the ticks of a control loop are, in a table of fixed size however long it runs."""

import numpy as np

RESOLUTION = 1e-4
"""Seconds; a value counts as the upper end of its step."""

LONGEST = 1.0
"""Seconds; what is longer counts as this much in the quantiles, in full in `max_ms`."""


class TickTimes:
    """Times in seconds, each 0 or more, counted in steps of RESOLUTION."""

    def __init__(self) -> None:
        self._counts = np.zeros(round(LONGEST / RESOLUTION) + 1, np.int64)
        self._longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._longest = max(self._longest, seconds)
        self._counts[min(int(max(seconds, 0.0) / RESOLUTION), len(self._counts) - 1)] += 1

    def summary(self) -> dict[str, float | None]:
        """`p50_ms`, `p99_ms` and `max_ms`; None of nothing."""
        total = int(self._counts.sum())
        if not total:
            return {"p50_ms": None, "p99_ms": None, "max_ms": None}
        reached = self._counts.cumsum()
        p50, p99 = (1000 * RESOLUTION * (int(np.searchsorted(reached, q * total)) + 1) for q in (0.5, 0.99))
        return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "max_ms": round(1000 * self._longest, 3)}
