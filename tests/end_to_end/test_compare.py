"""`embodied compare` as it is typed: killed without warning, it ends with the rows it would have had."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embodied.evaluation.row_log import RowLog

PUSHT = {"type": "embodied_pusht", "width": 32, "height": 32, "episode_length": 12}
POLICY = {
    "device": "cpu",
    "chunk_size": 4,
    "n_action_steps": 4,
    "action_tokens": 2,
    "num_latents": 2,
    "dim": 16,
    "depth": 1,
    "heads": 2,
    "head_dim": 16,
    "head_depth": 1,
    "head_heads": 2,
    "dynamics_depth": 1,
    "dynamics_heads": 2,
    "imagination": "latent",
    "world_model": True,
}
DECLARED = {
    "name": "tiny",
    "data": {
        "few": {"env": PUSHT, "episodes": 0, "random_episodes": 2, "workers": 1},
        "more": {"env": PUSHT, "episodes": 0, "noisy_episodes": 1, "seed": 5, "workers": 1},
        "all": {"merge": ["few", "more"]},
    },
    "training": {
        "latent": {
            "data": "all",
            "policy": POLICY,
            "steps": 30,
            "batch_size": 2,
            "save_freq": 5,
            "mixed_precision": "no",
        }
    },
    "arms": {
        "auxiliary": {"checkpoint": "latent"},
        "imagine": {"checkpoint": "latent", "policy": {"mode": "imagine", "temperature": 1.0}},
        "mean": {"checkpoint": "latent", "policy": {"mode": "imagine", "intervention": "mean"}},
        "plan": {"checkpoint": "latent", "policy": {"mode": "plan", "candidates": 2}},
    },
    "conditions": {"same": PUSHT},
    "training_seeds": [0, 1],
    "episodes": 4,
    "first_environment_seed": 100,
    "comparisons": [["plan", "auxiliary"], ["imagine", "mean"]],
}


def command(folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "embodied.cli",
        "compare",
        "tiny.json",
        f"--output_dir={folder}",
        "--num_envs=1",
    ]


def kill_when(is_time: Callable[[], bool], folder: Path) -> None:
    """Start the comparison and kill it, with the processes it has started, once it is time."""
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not is_time():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def outcomes(path: Path) -> dict[tuple, Any]:
    """What rows say, but for how long decisions took; every episode has one row."""
    rows = [row for row in RowLog(path).rows if "declaration" not in row]
    found = {
        (row["condition"], row["arm"], row["training_seed"], row["env_seed"]): {
            key: value for key, value in row.items() if key != "decision_ms"
        }
        for row in rows
    }
    assert len(found) == len(rows)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_comparison_that_is_killed_three_times_has_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.json").write_text(json.dumps(DECLARED))
    subprocess.run(command(Path("whole")), check=True, capture_output=True)
    killed = Path("killed")
    rows = killed / "tiny.jsonl"
    kill_when(lambda: (killed / "data" / "few" / "meta" / "info.json").is_file(), killed)
    kill_when(lambda: (killed / "training" / "latent-0" / "checkpoints" / "last").exists(), killed)
    kill_when(lambda: rows.is_file() and rows.read_bytes().count(b"\n") > 1 + 12 + 5, killed)
    done_before = outcomes(rows)
    assert 12 < len(done_before) < 12 + 32
    subprocess.run(command(killed), check=True, capture_output=True)
    assert outcomes(rows) == outcomes(Path("whole/tiny.jsonl"))
    one, other = (json.loads((folder / "tiny.json").read_text()) for folder in (killed, Path("whole")))
    assert one["comparisons"] == other["comparisons"]
    assert one["done"] == one["units"] == other["units"]
    took = [(each["checkpoint"], each["training_seed"], each["steps"]) for each in one["trainings"]]
    assert took == [("latent", 0, 30), ("latent", 1, 30)]
    assert all(each["seconds"] > 0 for each in other["trainings"])
