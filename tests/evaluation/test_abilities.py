import pytest

from embodied.evaluation.abilities import ability_profile, parse_task, profile_lines
from embodied.evaluation.summary import summarise


def rows(task: str, successes: int, episodes: int = 4) -> list[dict]:
    return [
        {
            "task": task,
            "instruction": "go",
            "env_seed": seed,
            "success": seed < successes,
            "steps": 9,
            "decision_ms": [1.0],
        }
        for seed in range(episodes)
    ]


def summary(**successes: int) -> dict:
    return summarise([row for task, count in successes.items() for row in rows(task, count)])


LEARNED = {"memory-1": 4, "memory-3": 1, "planning-2": 2}
HELD_OUT = {"memory-1-held-out": 3}
PROFILE = ability_profile(
    summary(**LEARNED, **HELD_OUT, **{"reach-cube": 4})["tasks"],
    {"random": summary(**dict.fromkeys([*LEARNED, *HELD_OUT, "reach-cube"], 1))},
)


def test_a_task_of_the_suite_is_an_ability_a_split_and_a_level() -> None:
    task = parse_task("memory-2-held-out")
    assert task is not None
    assert (task.ability, task.split, task.level) == ("memory", "held-out", 2)
    assert parse_task("reach-cube") is parse_task("memory-4") is None


def test_an_entry_is_the_mean_of_its_levels() -> None:
    assert [(entry["ability"], entry["split"]) for entry in PROFILE] == [
        ("planning", "learned"),
        ("memory", "learned"),
        ("memory", "held-out"),
    ]
    memory = PROFILE[1]
    assert memory["success_rate"] == pytest.approx(5 / 8)
    assert (memory["successes"], memory["episodes"]) == (5, 8)
    assert memory["by_level"] == {"1": 1.0, "3": 0.25}
    assert memory["floors"] == {"random": 0.25}
    assert memory["wilson_low"] < 5 / 8 < memory["wilson_high"]


def test_levels_of_unequal_size_have_no_interval() -> None:
    tasks = summarise([*rows("memory-1", 1), *rows("memory-2", 1, episodes=8)])["tasks"]
    (entry,) = ability_profile(tasks, {})
    assert entry["success_rate"] == pytest.approx((1 / 4 + 1 / 8) / 2)
    assert entry["wilson_low"] is entry["wilson_high"] is None


def test_the_table_has_a_column_for_each_level_there_is() -> None:
    head, planning, *_ = profile_lines(PROFILE)
    assert head[4:] == ["level 1", "level 2", "level 3", "random"]
    assert planning[:3] == ["planning", "learned", "50%"]
    assert planning[4:] == ["", "50%", "", "25%"]
    assert ability_profile(summary(**{"reach-cube": 1})["tasks"], {}) == []
