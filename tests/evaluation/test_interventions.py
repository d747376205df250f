"""Swapped instructions: every task is told everything, and the least harmful swap counts."""

import pytest

from embodied.evaluation import interventions
from embodied.lerobot_plugin import EmbodiedMetaworldEnv


def test_the_least_cost_is_that_of_the_least_harmful_instruction():
    assert interventions.least_cost({"reach": 0.9, "push": 0.5, "lift": 0.1}, "reach") == pytest.approx(0.4)


def test_instructions_that_include_the_task_are_left_aside():
    rates = {"reach": 0.9, "push": 0.1, "lift": 0.9}
    assert interventions.least_cost(rates, "reach", including=["lift"]) == pytest.approx(0.8)


def test_every_task_is_told_every_instruction_on_the_same_seeds(monkeypatch):
    """An obedient policy: it succeeds where it is told the task it stands in, and nowhere else."""
    asked = []

    def evaluate_policy(*loaded, episodes, seed):
        scene = loaded[-1]
        asked.append((scene.task, scene.instruction, episodes, seed))
        row = {"arm": "policy", "task": scene.task, "instruction": scene.instruction, "env_seed": seed}
        success = scene.instruction == f"do {scene.task}"
        return [{**row, "success": success, "steps": 1, "return": 0.0, "decision_ms": []}]

    monkeypatch.setattr(interventions, "evaluate_policy", evaluate_policy)
    env = EmbodiedMetaworldEnv(task="reach,push", goal_color="0,1,0")
    told = {"reach": "do reach", "push": "do push"}
    rates, rows = interventions.swap_instructions((None, None, None), env, told, episodes=1, seed=7)
    assert rates == {"reach": {"reach": 1.0, "push": 0.0}, "push": {"reach": 0.0, "push": 1.0}}
    assert [row["arm"] for row in rows] == ["told reach", "told push"] * 2
    assert asked == [(task, text, 1, 7) for task in told for text in told.values()]
