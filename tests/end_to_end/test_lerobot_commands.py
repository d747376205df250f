"""LeRobot's own commands, unmodified, from an empty folder and with the hub switched off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.config import CheckpointConfig, EvaluateConfig
from embodied.evaluation.evaluate import evaluate
from embodied.lerobot_plugin import EmbodiedMetaworldEnv

pytestmark = [pytest.mark.slow, pytest.mark.render, pytest.mark.timeout(1200)]

RENDERER = ("MUJOCO_GL", "LIBGL_ALWAYS_SOFTWARE")
SIZE = 64
ENV = {"task": "reach", "width": SIZE, "height": SIZE, "episode_length": 6}
LATENT_VLA = ["--policy.type=latent_vla", "--policy.dim=32", "--policy.head_dim=32"]
ACT = [
    "--policy.type=act",
    "--policy.dim_model=32",
    "--policy.n_heads=2",
    "--policy.dim_feedforward=32",
    "--policy.chunk_size=4",
    "--policy.n_action_steps=4",
    "--policy.pretrained_backbone_weights=null",
    "--policy.push_to_hub=false",
]


@pytest.fixture(scope="module")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of random actions in our environment, with its own pictures and instruction."""
    env: Any = EmbodiedMetaworldEnv(**ENV).env_fn("reach")()
    picture = {"dtype": "image", "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]}
    cameras = {f"observation.images.{camera}": dict(picture) for camera in env.cameras}
    root = tmp_path_factory.mktemp("data") / "reach"
    dataset = LeRobotDataset.create(
        "local/reach",
        fps=env.fps,
        features={**cameras, "observation.state": dict(vector), "action": dict(vector)},
        root=root,
        use_videos=False,
    )
    draw = np.random.default_rng(0)
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        for _ in range(ENV["episode_length"]):
            action = draw.uniform(-1, 1, 4).astype(np.float32)
            pictures = {f"observation.images.{name}": view for name, view in observation["pixels"].items()}
            state = {"observation.state": observation["agent_pos"], "action": action}
            dataset.add_frame({**pictures, **state, "task": env.task_description})
            observation = env.step(action)[0]
        dataset.save_episode()
    dataset.finalize()
    env.close()
    return root


def run(folder: Path, command: str, *flags: str) -> str:
    """Run one of LeRobot's commands in `folder`, no renderer chosen beforehand; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in RENDERER}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf_home")}
    finished = subprocess.run(
        [str(Path(sys.executable).with_name(command)), *flags],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    printed = finished.stdout + finished.stderr
    assert finished.returncode == 0, printed
    return printed


def env_flags() -> list[str]:
    return ["--env.type=embodied_metaworld", *(f"--env.{name}={value}" for name, value in ENV.items())]


def train_flags(dataset_root: Path) -> list[str]:
    return [
        "--dataset.repo_id=local/reach",
        f"--dataset.root={dataset_root}",
        "--policy.device=cpu",
        "--output_dir=trained",
        "--steps=2",
        "--batch_size=2",
        "--num_workers=0",
        "--log_freq=1",
        "--save_freq=2",
    ]


def test_lerobot_train_and_eval_run_our_policy_in_our_environment(dataset_root: Path, tmp_path: Path) -> None:
    evaluation = ["--eval.n_episodes=1", "--eval.batch_size=1"]
    run(
        tmp_path,
        "lerobot-train",
        *LATENT_VLA,
        *train_flags(dataset_root),
        *env_flags(),
        "--env_eval_freq=2",
        *evaluation,
    )
    checkpoint = tmp_path / "trained" / "checkpoints" / "last" / "pretrained_model"
    run(
        tmp_path,
        "lerobot-eval",
        f"--policy.path={checkpoint}",
        "--policy.device=cpu",
        "--output_dir=evaluated",
        *env_flags(),
        *evaluation,
    )
    result = json.loads((tmp_path / "evaluated" / "eval_info.json").read_text())
    assert result["overall"]["n_episodes"] == 1
    assert list(result["per_group"]) == ["reach"]
    assert list((tmp_path / "evaluated").rglob("*.mp4"))


def test_lerobots_act_runs_in_our_evaluation(dataset_root: Path, tmp_path: Path) -> None:
    run(tmp_path, "lerobot-train", *ACT, *train_flags(dataset_root))
    result = evaluate(
        EvaluateConfig(
            policy=CheckpointConfig(path=tmp_path / "trained"),
            env=EmbodiedMetaworldEnv(**ENV),
            episodes=2,
            num_envs=1,
            device="cpu",
        )
    )
    assert result["policy"] == "act"
    assert result["tasks"][0]["episode_lengths"] == [6, 6]
