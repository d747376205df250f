"""Interventions: change one thing that a policy is given, hold the rest, and see what it costs."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from embodied.evaluation.evaluate import evaluate_policy
from embodied.evaluation.summary import Row, summarise
from embodied.lerobot_plugin import SimulatedEnvConfig

Rates = dict[str, dict[str, float]]


def swap_instructions(
    policy: Sequence[Any],
    env: SimulatedEnvConfig,
    instructions: Mapping[str, str],
    *,
    episodes: int,
    seed: int,
) -> tuple[Rates, list[Row]]:
    """Run every task on the same states with its own instruction and with every other task's.

    policy: as `load_policy` gives it; instructions: per task. Returns success at the task itself,
    `rates[task][task whose instruction was given]`, and the episodes, whose arm says what was told.
    """
    rates: Rates = {task: {} for task in instructions}
    rows: list[Row] = []
    model, preprocessor, postprocessor = policy
    for task in instructions:
        for said, instruction in instructions.items():
            scene = dataclasses.replace(env, task=task, instruction=instruction)
            told = evaluate_policy(model, preprocessor, postprocessor, scene, episodes=episodes, seed=seed)
            rows += [{**row, "arm": f"told {said}"} for row in told]
            rates[task][said] = summarise(told)["success_rate"]
    return rates, rows


def least_cost(rates: Mapping[str, float], own: str, including: Collection[str] = ()) -> float:
    """What the least harmful of the other instructions costs the task, as a difference of success rates.

    including: instructions whose fulfilment fulfils the task too, which are left aside.
    """
    return min(rates[own] - rate for said, rate in rates.items() if said != own and said not in including)
