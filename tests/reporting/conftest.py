"""A run's folder written by hand: what `embodied quickstart` leaves, with an instruction that means harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.evaluation.comparison import summarise_comparison
from embodied.evaluation.summary import summarise, write_rows
from embodied.evaluation.videos import save_recordings
from embodied.reporting.run_folder import Run, read_run
from embodied.rollout import Episode, EpisodeResult

HARMFUL = '<script>alert("x")</script> & "go"'
INSTRUCTIONS = {"east": "go east", "a-task-with-a-rather-long-name-of-its-own": HARMFUL}
SEEDS = (7, 8, 9)
ORIGIN = {
    "command": "/opt/env/bin/embodied evaluate --policy.path=runs/a --env.task=east",
    "commit": "c0ffee" * 6,
    "date": "2026-01-31",
    "machine": {"cores": 2, "threads": 1, "cpu": "A Processor", "accelerators": [], "system": "Linux"},
    "versions": {"python": "3.12.1", "torch": "2.11.0"},
    "dataset": {"fingerprint": "da7a" * 16},
}
CHECKPOINT = {"path": "runs/a/checkpoints/000200", "sha256": "5a1e" * 16, "training_seed": 3}
TRAINED = {
    "output_dir": "elsewhere/training",
    "checkpoint": CHECKPOINT["path"],
    "steps": 200,
    "parameters": 3_872_816,
    "seconds": 1712.0,
    "samples_per_s": 150.0,
}
COLLECTED = {
    "episodes": 20,
    "frames": 1234,
    "seconds": 45.0,
    "fingerprint": "da7a" * 16,
    "tasks": {
        "east": {
            "instruction": "go east",
            "expert": {"episodes": 20, "successes": 20, "frames": 1234, "attempts": 22},
        }
    },
}


def row(task: str, seed: int, success: bool, arm: str = "policy", **more: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "task": task,
        "instruction": INSTRUCTIONS[task],
        "env_seed": seed,
        "success": success,
        "steps": 10 if success else 50,
        "return": 1.0,
        "decision_ms": [10.0, 20.0],
        **more,
    }


def policy_rows() -> list[dict[str, Any]]:
    """Of the first task 2 of 3 succeed, of the second none."""
    return [row(task, seed, task == "east" and seed > 7) for task in INSTRUCTIONS for seed in SEEDS]


def floor_rows() -> list[dict[str, Any]]:
    return [
        row(task, seed, False, arm) for arm in ("random", "noop") for task in INSTRUCTIONS for seed in SEEDS
    ]


def evaluation(**changes: Any) -> dict[str, Any]:
    floors = {
        arm: summarise([row for row in floor_rows() if row["arm"] == arm]) for arm in ("random", "noop")
    }
    latency = {"p50": 17.4, "p95": 21.9}
    result = {**summarise(policy_rows()), "floors": floors, "latency_ms": latency, "policy": "latent_vla"}
    result |= {"env": {"type": "fake", "width": 96}, "checkpoint": CHECKPOINT, "seed": 7, **ORIGIN}
    return {**result, **changes}


def comparison_rows() -> list[dict[str, Any]]:
    """Of 10 episodes `none` solves 2 with each of two seeds, `plan` 8, the expert all, chance none."""
    solved = {("none", 0): 2, ("none", 1): 2, ("plan", 0): 8, ("plan", 1): 8}
    solved |= {("expert", None): 10, ("random", None): 0}
    return [
        {
            **row("east", number, number < count, arm),
            "condition": "gap",
            "training_seed": seed,
            "alone": seed is not None,
        }
        for (arm, seed), count in solved.items()
        for number in range(10)
    ]


def comparison_result() -> dict[str, Any]:
    summary = summarise_comparison(comparison_rows(), [("plan", "none")])
    return {"name": "gaps", **summary, "training_seeds": [0, 1], **ORIGIN}


def write_comparison(folder: Path) -> None:
    """What `embodied compare` leaves beside data and checkpoints."""
    write_json(folder / "gaps.json", comparison_result())
    write_rows([{"declaration": {}}, *comparison_rows()], folder / "gaps.jsonl")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_films(folder: Path) -> None:
    """A film and a filmstrip of each task's first two episodes; the last picture is bright."""
    frames = np.stack([np.full((32, 96, 3), brightness, np.uint8) for brightness in (0, 100, 250)])
    save_recordings(
        [
            EpisodeResult(
                episode=Episode(task=row["task"], seed=row["env_seed"]),
                instruction="film",
                success=row["success"],
                frames=frames,
            )
            for row in policy_rows()
            if row["env_seed"] < 9
        ],
        folder / "videos",
    )


def write_evaluation(folder: Path) -> None:
    """An evaluation's output_dir, without its result."""
    write_rows(policy_rows() + floor_rows(), folder / "episodes.jsonl")
    write_films(folder)


def write_training(folder: Path, steps: int = 200) -> None:
    """A training run's output_dir: ten log lines, two evaluations, a checkpoint without its tensors."""
    rows: list[dict[str, float]] = []
    for step in range(steps // 10, steps + 1, steps // 10):
        loss = 100 / step
        speed = {"samples_per_s": 150.0, "data_fraction": 0.02}
        rows.append({"step": step, "loss": loss, "action_loss": loss, "grad_norm": 1.0, "lr": 1e-3, **speed})
        if step % (steps // 2) == 0:
            rows.append({"step": step, "success": 0.5, "success/east": 1.0, "success/west": 0.0})
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"seed": 3, "eval_episodes": 10, "policy": {"type": "latent_vla"}, "optimizer": {"lr": 0.001}}
    write_json(folder / "train_config.json", settings)
    checkpoint = folder / "checkpoints" / "000200"
    write_json(checkpoint / "MANIFEST.json", {"files": {}, "sha256": CHECKPOINT["sha256"]})
    write_json(checkpoint / "provenance.json", {**ORIGIN, "seed": 3, "command": "embodied train --steps=200"})
    write_json(checkpoint / "evaluation_card.json", {"evaluated": False})


def write_quickstart(folder: Path) -> None:
    write_json(folder / "quickstart.json", {"steps": 200, "note": HARMFUL})
    write_json(folder / "collect.json", COLLECTED)
    write_json(folder / "train.json", TRAINED)
    write_json(folder / "evaluate.json", evaluation())
    write_training(folder / "training")
    write_evaluation(folder / "evaluation")
    write_json(folder / "demonstrations" / "meta" / "info.json", {"fps": 80})


@pytest.fixture(scope="session")
def quickstart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished quickstart; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    write_quickstart(folder)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Writes parts of a run with the given functions of a folder, and reads it."""

    def make(*writers: Callable[[Path], None]) -> Run:
        folder = tmp_path / "run"
        for write in writers:
            write(folder)
        return read_run(folder)

    return make
