from pathlib import Path
from typing import Any

import numpy as np

from embodied.evaluation.summary import summarise, write_rows
from embodied.evaluation.videos import save_recordings
from embodied.reporting.abilities import abilities
from embodied.reporting.rollouts import rollouts
from embodied.reporting.run_folder import Run, read_run
from embodied.rollout import Episode, EpisodeResult
from tests.reporting.conftest import HARMFUL, evaluation, write_json

TASKS = {"memory-1": 2, "memory-1-held-out": 0, "planning-1": 3}
"""How many of three episodes succeed."""


def suite_rows(arm: str, successes: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "arm": arm,
            "task": task,
            "instruction": HARMFUL,
            "env_seed": 40 + number,
            "success": number < count,
            "steps": 17,
            "return": 0.0,
            "decision_ms": [1.0],
            "stages": [[0, "watch the lamp"]],
        }
        for task, count in successes.items()
        for number in range(3)
    ]


def suite_run(folder: Path) -> Run:
    rows, floor = suite_rows("policy", TASKS), suite_rows("random", dict.fromkeys(TASKS, 1))
    result = evaluation(**summarise(rows), floors={"random": summarise(floor)})
    write_json(folder / "evaluation.json", result)
    write_rows([*rows, *floor], folder / "episodes.jsonl")
    frames = np.full((3, 32, 96, 3), 120, np.uint8)
    films = [
        EpisodeResult(
            episode=Episode(task=row["task"], seed=row["env_seed"]),
            instruction="film",
            success=row["success"],
            frames=frames,
        )
        for row in rows
    ]
    save_recordings(films, folder / "videos")
    return read_run(folder)


def test_each_ability_has_a_bar_for_each_split_and_its_failures(tmp_path: Path) -> None:
    page = abilities(suite_run(tmp_path), 0)
    assert page is not None
    text = page.replace("\N{NO-BREAK SPACE}", " ")
    for name in ("memory, learned: 67 %", "memory, held-out: 0 %", "planning, learned: 100 %"):
        assert f'aria-label="{name}, interval' in text
    assert "memory: 4 of 6 episodes failed" in page
    assert "planning: " not in page
    assert "watch the lamp" in page
    assert "<script>" not in page


def test_films_stand_by_ability_with_failures_first(tmp_path: Path) -> None:
    page = rollouts(suite_run(tmp_path), 2_000_000)
    assert page is not None
    order = [page.index(text) for text in ("<h3>planning", "<h4>Successes", "<h3>memory", "<h4>Failures")]
    assert order == sorted(order)
    assert page.index("<h4>Failures") < page.rindex("<h4>Successes")


def test_a_run_without_the_suite_has_no_profile(quickstart_folder: Path) -> None:
    assert abilities(read_run(quickstart_folder), 0) is None
