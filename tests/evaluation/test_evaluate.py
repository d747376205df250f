import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lerobot.envs.configs import AlohaEnv

from embodied.config import CheckpointConfig, EvaluateConfig
from embodied.errors import UserError
from embodied.evaluation.evaluate import evaluate, evaluate_policy
from tests.fake_envs import PointEnvConfig


def config_for(folder: Path, **overrides) -> EvaluateConfig:
    settings = {
        "policy": CheckpointConfig(path=folder),
        "env": PointEnvConfig(task="east,west", episode_length=6),
        "episodes": 2,
        "seed": 50,
        "num_envs": 1,
        "device": "cpu",
    }
    return EvaluateConfig(**{**settings, **overrides})


def test_result_has_tasks_floors_hashes_and_rows(
    save_checkpoint: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output_dir = tmp_path / "evaluation"
    result = evaluate(config_for(save_checkpoint("act"), output_dir=output_dir, videos=1))
    assert json.loads(json.dumps(result)) == result
    assert [(task["task"], task["seeds"]) for task in result["tasks"]] == [
        ("east", [50, 51]),
        ("west", [50, 51]),
    ]
    for name in ("random", "noop"):
        floor = result["floors"][name]
        assert [task["seeds"] for task in floor["tasks"]] == [[50, 51], [50, 51]]
    # Six steps of at most 0.1 cannot reach x = 1.
    assert result["success_rate"] == result["floors"]["random"]["success_rate"] == 0
    assert len(result["checkpoint"]["sha256"]) == 64
    assert result["latency_ms"]["p50"] > 0
    rows = [json.loads(line) for line in (output_dir / "episodes.jsonl").read_text().splitlines()]
    assert [row["arm"] for row in rows] == ["policy"] * 4 + ["random"] * 4 + ["noop"] * 4
    assert [row["env_seed"] for row in rows if "stages" in row] == [50, 50]
    assert rows[0]["stages"] == [[0, "go east"]]
    assert json.loads((output_dir / "evaluation.json").read_text()) == result
    assert sorted(path.name for path in (output_dir / "videos").glob("*.mp4")) == [
        "east_50_failure.mp4",
        "west_50_failure.mp4",
    ]
    assert capsys.readouterr().out.splitlines()[-1].split() == ["mean", "0%", "0%", "0%"]


def test_whoever_remembers_for_a_neighbour_has_no_time_alone(save_checkpoint: Callable) -> None:
    folder = save_checkpoint("latent_vla", memory_tokens=2, memory_window=4, memory="swapped")
    result = evaluate(config_for(folder, num_envs=2, floors=False))
    assert [task["episodes"] for task in result["tasks"]] == [2, 2]
    assert result["latency_ms"] == {"p50": None, "p95": None}


def test_films_need_a_place(save_checkpoint: Callable) -> None:
    with pytest.raises(UserError, match="--videos=3: expected --output_dir"):
        evaluate(config_for(save_checkpoint("act"), videos=3))


def test_foreign_environment_is_refused(save_checkpoint: Callable) -> None:
    with pytest.raises(UserError, match=r"--env\.type=aloha: expected"):
        evaluate(config_for(save_checkpoint("act"), env=AlohaEnv()))


def test_evaluation_in_training_leaves_mode_and_random_state(make_loaded: Callable) -> None:
    loaded = make_loaded("act", temporal_ensemble_coeff=0.01, n_action_steps=1)
    loaded[0].train()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    rows = evaluate_policy(*loaded, PointEnvConfig(episode_length=3), episodes=2, seed=50, num_envs=1)
    assert [(row["env_seed"], row["steps"]) for row in rows] == [(50, 3), (51, 3)]
    assert loaded[0].training
    assert torch.equal(torch.rand(4), expected)
