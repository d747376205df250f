"""From milliseconds to candidates and iterations: once, at start-up, so that no decision watches a clock.

One iteration takes `overhead + rate * candidates` seconds. Two timings give both, and a budget then buys so
many candidates in so many iterations. Evaluation always fixes the counts instead: its results must not depend
on how busy a machine is.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from world_models.planners.interface import PlannerConfig

SIZES = (16, 256)
REPEATS = 5
FEWEST, MOST = 16, 1024
"""Candidates: fewer say nothing about the next iteration, more gain nothing."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one iteration with so many candidates took."""

    candidates: int
    seconds: float


def spend(config: PlannerConfig, milliseconds: float, small: Timing, large: Timing) -> PlannerConfig:
    """The same search with as many candidates as the budget buys, in as many of its iterations as it allows.

    Iterations are given up, one by one, before candidates fall below `FEWEST`. Raises ValueError if not even
    one iteration of them fits.
    """
    rate = max(0.0, (large.seconds - small.seconds) / (large.candidates - small.candidates))
    overhead = max(0.0, small.seconds - rate * small.candidates)
    seconds = milliseconds / 1000
    if overhead + rate * FEWEST > seconds:
        least = (overhead + rate * FEWEST) * 1000
        raise ValueError(f"a budget of {milliseconds:g} ms: expected at least {least:.3g} ms on this machine")
    iterations = next(
        count for count in range(config.iterations, 0, -1) if count * (overhead + rate * FEWEST) <= seconds
    )
    left = seconds / iterations - overhead
    candidates = MOST if rate * MOST <= left else int(left / rate + 1e-9)
    elites = max(2, round(candidates * config.elites / config.candidates))
    return dataclasses.replace(
        config,
        candidates=candidates,
        iterations=iterations,
        elites=elites,
        kept=min(elites, config.kept),
    )


def measure(search: Callable[[int], object], device: torch.device) -> tuple[Timing, Timing]:
    """Timings of `search(candidates)`, one iteration, at both `SIZES`."""
    small, large = (
        Timing(candidates=size, seconds=seconds_of(partial(search, size), device)) for size in SIZES
    )
    return small, large


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Median duration of `run()`, the device's part included, after a first time that does not count."""
    durations = []
    for _ in range(1 + REPEATS):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        durations.append(time.perf_counter() - started)
    return statistics.median(durations[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
