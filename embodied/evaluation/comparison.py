"""Arms against each other: success per arm and condition, and paired differences with their intervals.

Every arm meets the same episodes (task and environment seed) with the same training seeds, so that its
outcomes are a table of S training seeds by E episodes, and two arms are compared cell by cell. Intervals are
percentile bootstraps: each replicate draws training seeds, then episodes within their tasks. A drawn episode
counts for every drawn seed, since all seeds met it (Owen, "The pigeonhole bootstrap", 2007): what is hard
about an episode then counts once, not S times. No resampling makes up for few seeds: where they alone decide,
intervals from three of them hold the truth 7 times in 10, so the difference per training seed stands beside.

S training seeds, E episodes, R replicates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied.errors import UserError
from embodied.evaluation.statistics import percentiles_ms, success_counts, wilson_interval
from embodied.evaluation.summary import Row

Episode = tuple[str, int]
"""Task and environment seed."""

Cell = tuple[int | None, Episode]
"""One episode of one training seed; floors and experts have none."""

METRIC = "success"
REPLICATES = 10_000
DIGITS = 9
"""Beyond these a mean of ones is not one."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What one arm reached in one condition: values (S, E), and whose rows and columns they are."""

    values: np.ndarray
    seeds: tuple[int | None, ...]
    episodes: tuple[Episode, ...]


def summarise_comparison(
    rows: Sequence[Row],
    comparisons: Iterable[tuple[str, str]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Statistics of episode rows, each with `condition`, `arm` and `training_seed` beside what episodes have.

    comparisons: (arm, against) pairs; seed: of the bootstrap. Returns `arms` (an entry per arm, condition and
    training seed), `rates` (per arm and condition, over training seeds, each with its `tasks`) and
    `comparisons` (per pair and condition that has rows of both). Raises UserError naming the first episode
    that one arm has and another, or another training seed of it, lacks.
    """
    cells = _sort_by_cell(rows)
    outcomes = {key: tabulate(found, *key) for key, found in cells.items()}
    conditions = list(dict.fromkeys(condition for condition, _ in cells))
    return {
        "arms": [entry for key, found in cells.items() for entry in _per_seed(*key, found)],
        "rates": [
            _rate(*key, cells[key], outcome, replicates=replicates, seed=seed)
            for key, outcome in outcomes.items()
        ],
        "comparisons": [
            _compare(
                condition,
                {arm: outcomes[condition, arm], against: outcomes[condition, against]},
                replicates=replicates,
                seed=seed,
            )
            for condition in conditions
            for arm, against in comparisons
            if {(condition, arm), (condition, against)} <= outcomes.keys()
        ],
    }


def _sort_by_cell(rows: Iterable[Row]) -> dict[tuple[str, str], dict[Cell, Row]]:
    """Rows per (condition, arm) and cell."""
    cells: dict[tuple[str, str], dict[Cell, Row]] = {}
    for row in rows:
        cell = (row["training_seed"], (row["task"], row["env_seed"]))
        cells.setdefault((row["condition"], row["arm"]), {})[cell] = row
    return cells


def tabulate(found: Mapping[Cell, Row], condition: str, arm: str) -> Outcomes:
    """Outcomes of one arm as a table without holes; UserError naming the first hole."""
    seeds = tuple(dict.fromkeys(seed for seed, _ in found))
    episodes = tuple(sorted({episode for _, episode in found}))
    for seed in seeds:
        for episode in episodes:
            if (seed, episode) not in found:
                raise UserError(_lacks(condition, arm, seed, episode, "another training seed of it"))
    values = [[float(found[seed, episode][METRIC]) for episode in episodes] for seed in seeds]
    return Outcomes(values=np.array(values), seeds=seeds, episodes=episodes)


def _lacks(condition: str, arm: str, seed: int | None, episode: Episode, whose: str) -> str:
    task, env_seed = episode
    of = "" if seed is None else f"training seed {seed}, "
    return (
        f"condition {condition}: arm {arm} has no row of {of}task {task}, environment seed {env_seed}: "
        f"expected one, as {whose} has it"
    )


def _require_paired(condition: str, pair: Mapping[str, Outcomes]) -> None:
    for arm, other in (tuple(pair), tuple(pair)[::-1]):
        for seed in pair[other].seeds:
            for episode in pair[other].episodes:
                if seed not in pair[arm].seeds or episode not in pair[arm].episodes:
                    raise UserError(_lacks(condition, arm, seed, episode, f"arm {other}"))


# --- intervals ------------------------------------------------------------------------------------


def mean_over_tasks(values: np.ndarray, episodes: Sequence[Episode]) -> float:
    """Mean of values (S, E) over tasks, each the mean of its episodes and of all seeds."""
    return round(float(values.mean(0) @ _weights(episodes).sum(0)), DIGITS)


def bootstrap(
    values: np.ndarray,
    episodes: Sequence[Episode],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of the mean over tasks of values (S, E): over training seeds, then over episodes.

    confidence: two-sided; at 0.9 each bound alone is one of 95 %.
    """
    rng = np.random.default_rng(seed)
    count = len(values)
    seeds = rng.multinomial(count, np.full(count, 1 / count), size=replicates) / count
    drawn = np.zeros((replicates, len(episodes)))
    for weights in _weights(episodes):
        mine = np.flatnonzero(weights)
        times = rng.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), size=replicates)
        drawn[:, mine] = times * weights[mine]
    outside = 50 * (1 - confidence)
    low, high = np.percentile(((seeds @ values) * drawn).sum(1), [outside, 100 - outside])
    return round(float(low), DIGITS), round(float(high), DIGITS)


def _weights(episodes: Sequence[Episode]) -> np.ndarray:
    """How much each episode counts for the mean over tasks, (tasks, E), zero outside the row's task."""
    names = np.array([task for task, _ in episodes])
    tasks = np.unique(names)
    is_mine = names == tasks[:, None]
    return is_mine / is_mine.sum(1, keepdims=True) / len(tasks)


# --- entries --------------------------------------------------------------------------------------


def _per_seed(condition: str, arm: str, found: Mapping[Cell, Row]) -> list[dict[str, Any]]:
    entries = []
    for seed in dict.fromkeys(seed for seed, _ in found):
        rows = [row for (its_seed, _), row in found.items() if its_seed == seed]
        entries.append(
            {
                "arm": arm,
                "condition": condition,
                "training_seed": seed,
                **success_counts(sum(bool(row[METRIC]) for row in rows), len(rows)),
                "latency_ms": _latency(rows),
            }
        )
    return entries


def _latency(rows: Iterable[Row]) -> dict[str, float | None]:
    """Of decisions made for one environment alone."""
    return percentiles_ms([ms / 1000 for row in rows if row.get("alone") for ms in row["decision_ms"]])


def _rate(
    condition: str, arm: str, found: Mapping[Cell, Row], outcome: Outcomes, *, replicates: int, seed: int
) -> dict[str, Any]:
    """Success over training seeds; the interval is never narrower than Wilson's.

    A bootstrap of nothing but successes has no width.
    """
    successes, episodes = int(outcome.values.sum()), outcome.values.size
    low, high = bootstrap(outcome.values, outcome.episodes, replicates=replicates, seed=seed)
    wilson_low, wilson_high = wilson_interval(successes, episodes)
    return {
        "arm": arm,
        "condition": condition,
        "successes": successes,
        "episodes": episodes,
        "success_rate": mean_over_tasks(outcome.values, outcome.episodes),
        "low": min(low, wilson_low),
        "high": max(high, wilson_high),
        "training_seeds": [seed for seed in outcome.seeds if seed is not None],
        "tasks": _per_task(outcome),
        "latency_ms": _latency(found.values()),
    }


def _per_task(outcome: Outcomes) -> list[dict[str, Any]]:
    """Success at each task, of all training seeds, with Wilson's interval."""
    entries = []
    for task in dict.fromkeys(task for task, _ in outcome.episodes):
        mine = outcome.values[:, [name == task for name, _ in outcome.episodes]]
        entries.append({"task": task, **success_counts(int(mine.sum()), mine.size)})
    return entries


def _compare(condition: str, pair: Mapping[str, Outcomes], *, replicates: int, seed: int) -> dict[str, Any]:
    """How much higher the first arm's success is than the second's."""
    _require_paired(condition, pair)
    (arm, one), (against, other) = pair.items()
    # Both are sorted by episode; seeds may have come in another order.
    order = [other.seeds.index(seed) for seed in one.seeds]
    differences = one.values - other.values[order]
    low, high = bootstrap(differences, one.episodes, replicates=replicates, seed=seed)
    return {
        "arm": arm,
        "against": against,
        "condition": condition,
        "metric": METRIC,
        "difference": mean_over_tasks(differences, one.episodes),
        "low": low,
        "high": high,
        "episodes": len(one.episodes),
        "training_seeds": [seed for seed in one.seeds if seed is not None],
        "per_seed": [mean_over_tasks(row[None], one.episodes) for row in differences],
    }
