"""Statistics of a comparison, with answers known by hand."""

from typing import Any

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.evaluation.comparison import bootstrap, mean_over_tasks, summarise_comparison
from embodied.evaluation.statistics import wilson_interval

SEEDS = (0, 1, 2)


def rows_of(arm: str, values: Any, condition: str = "gap", task: str = "push", **more: Any) -> list[dict]:
    """Rows of `values`, success by training seed and environment seed from 100 on."""
    return [
        {
            "condition": condition,
            "arm": arm,
            "training_seed": seed,
            "task": task,
            "env_seed": 100 + index,
            "success": bool(success),
            "decision_ms": [],
            **more,
        }
        for seed, line in zip(SEEDS, np.asarray(values), strict=False)
        for index, success in enumerate(line)
    ]


def random_outcomes(seed: int, episodes: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).random((3, episodes)) < 0.5


def compare(rows: list[dict], **options: Any) -> dict[str, Any]:
    (found,) = summarise_comparison(rows, [("plan", "none")], **options)["comparisons"]
    return found


def test_identical_arms_differ_by_nothing_for_certain() -> None:
    values = random_outcomes(0)
    found = compare(rows_of("plan", values) + rows_of("none", values))
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)
    assert found["per_seed"] == [0, 0, 0]


def test_a_constant_difference_has_no_interval() -> None:
    found = compare(rows_of("plan", np.ones((3, 20))) + rows_of("none", np.zeros((3, 20))))
    assert (found["difference"], found["low"], found["high"]) == pytest.approx((1, 1, 1))
    assert (found["episodes"], found["training_seeds"], found["metric"]) == (20, [0, 1, 2], "success")


def test_episodes_are_paired_whatever_the_order_of_the_rows() -> None:
    values = random_outcomes(1)
    other = [*reversed(rows_of("none", values))]
    assert compare(rows_of("plan", values) + other)["high"] == 0


def test_pairing_takes_out_what_is_hard_about_an_episode() -> None:
    """One arm succeeds where the other does and in 10 % more: the unpaired interval would hold zero."""
    base = np.tile(np.arange(100) % 2 == 0, (3, 1))
    better = base.copy()
    better[:, 1:20:2] = True
    found = compare(rows_of("plan", better) + rows_of("none", base))
    assert found["difference"] == pytest.approx(0.1)
    # Standard deviation of the mean of 100 episodes that are 1 with probability 0.1: 0.03.
    assert found["low"] == pytest.approx(0.1 - 1.96 * 0.03, abs=0.012)
    assert found["high"] == pytest.approx(0.1 + 1.96 * 0.03, abs=0.012)


def test_training_seeds_that_disagree_widen_the_interval() -> None:
    """One seed of three wins everywhere: the mean of three draws lies between 0 and 1."""
    values = np.zeros((3, 50))
    values[0] = 1
    found = compare(rows_of("plan", values) + rows_of("none", np.zeros((3, 50))))
    assert found["difference"] == pytest.approx(1 / 3)
    assert (found["low"], found["high"]) == (0, 1)  # with probability 8/27 and 1/27
    assert found["per_seed"] == [1, 0, 0]


def test_the_bootstrap_is_a_function_of_its_seed() -> None:
    rows = rows_of("plan", random_outcomes(2)) + rows_of("none", random_outcomes(3))
    assert compare(rows, seed=1) == compare(rows, seed=1)
    assert compare(rows, seed=1)["low"] != compare(rows, seed=2, replicates=500)["low"]


def test_tasks_count_the_same_however_many_episodes_they_have() -> None:
    episodes = [("a", seed) for seed in range(30)] + [("b", seed) for seed in range(10)]
    values = np.array([[1.0] * 30 + [0.0] * 10])
    assert mean_over_tasks(values, episodes) == pytest.approx(0.5)
    assert bootstrap(values, episodes) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("num_seeds", "seed_deviation", "least", "most"),
    [(20, 0.1, 0.9, 0.98), (3, 0.0, 0.9, 0.995), (3, 1.0, 0.65, 0.8)],
)
def test_coverage_is_that_of_the_interval_but_with_few_seeds_that_decide(
    num_seeds: int, seed_deviation: float, least: float, most: float
) -> None:
    """Seeds, episodes and their combination each add a random part to a difference of 0.3."""
    rng = np.random.default_rng(0)
    episodes = [("push", seed) for seed in range(50)]
    covered = 0
    for trial in range(200):
        values = 0.3 + rng.normal(0, seed_deviation, (num_seeds, 1)) + rng.normal(0, 0.5, (1, 50))
        values += rng.normal(0, 0.5, (num_seeds, 50))
        low, high = bootstrap(values, episodes, replicates=400, seed=trial)
        covered += low <= 0.3 <= high
    assert least <= covered / 200 <= most


def test_an_episode_that_one_arm_lacks_is_named() -> None:
    rows = rows_of("plan", np.ones((3, 5))) + rows_of("none", np.ones((3, 4)))
    with pytest.raises(UserError, match=r"arm none has no row of training seed 0, task push, .* seed 104"):
        compare(rows)
    with pytest.raises(UserError, match=r"arm none has no row of training seed 2.* as arm plan has it"):
        compare(rows_of("plan", np.ones((3, 5))) + rows_of("none", np.ones((2, 5))))


def test_a_hole_in_an_arm_is_named() -> None:
    rows = rows_of("plan", np.ones((3, 5))) + rows_of("none", np.ones((3, 5)))
    del rows[7]
    with pytest.raises(UserError, match=r"condition gap: arm plan has no row of training seed 1.* seed 102"):
        compare(rows)


def test_arms_have_an_entry_per_training_seed_with_wilsons_interval() -> None:
    values = [[1, 1, 0, 0], [1, 1, 1, 1]]
    alone = rows_of("none", np.array(values), alone=True)
    for row in alone:
        row["decision_ms"] = [10.0, 30.0]
    first, second = summarise_comparison(alone, [])["arms"]
    assert (first["successes"], first["episodes"], first["success_rate"]) == (2, 4, 0.5)
    assert (first["wilson_low"], first["wilson_high"]) == wilson_interval(2, 4)
    assert first["latency_ms"] == {"p50": 20.0, "p95": 30.0}
    assert second["training_seed"] == 1


def test_decisions_for_several_environments_together_are_no_latency() -> None:
    batch = rows_of("none", np.ones((1, 3)))
    batch[0]["decision_ms"] = [100.0]
    assert summarise_comparison(batch, [])["arms"][0]["latency_ms"] == {"p50": None, "p95": None}


def test_success_everywhere_still_has_wilsons_width() -> None:
    (rate,) = summarise_comparison(rows_of("none", np.ones((3, 10))), [])["rates"]
    assert (rate["low"], rate["high"]) == wilson_interval(30, 30)


def test_rates_are_told_task_by_task() -> None:
    rows = rows_of("none", np.array([[1, 0, 1, 1], [1, 0, 0, 1]]))
    for row in rows[1::2]:
        row["task"] = "other"
    (rate,) = summarise_comparison(rows, [])["rates"]
    found = {row["task"]: (row["successes"], row["episodes"]) for row in rate["tasks"]}
    assert found == {rows[0]["task"]: (3, 4), "other": (2, 4)}
    assert rate["success_rate"] == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_conditions_are_compared_apart() -> None:
    rows = rows_of("plan", np.ones((3, 5)), "gap") + rows_of("none", np.zeros((3, 5)), "gap")
    rows += rows_of("plan", np.ones((3, 5)), "push") + rows_of("none", np.ones((3, 5)), "push")
    rows += rows_of("plan", np.ones((3, 5)), "unfinished")
    found = summarise_comparison(rows, [("plan", "none")])["comparisons"]
    assert [(one["condition"], one["difference"]) for one in found] == [("gap", 1), ("push", 0)]
