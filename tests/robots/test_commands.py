"""LeRobot's own commands drive the simulated arm, as users type them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot.datasets import LeRobotDataset

from embodied.config import CollectConfig, DatasetConfig, TrainConfig
from embodied.data.collect import collect
from embodied.lerobot_plugin import EmbodiedSO101Env
from embodied.robots.body import read_motor_log
from embodied.training.loop import train
from envs.so101 import SO101Env
from policies.latent_vla import LatentVLAConfig

pytestmark = [pytest.mark.render, pytest.mark.slow, pytest.mark.timeout(1200)]
TASK = "bring the gripper around the red cube"


def run(command: str, folder: Path, **flags: object) -> None:
    """Run a command of LeRobot's with a simulated arm of small pictures; its flags have dots for __."""
    robot = {"type": "sim_so101", "width": 32, "height": 32, "motor_log": folder / "motors.jsonl"}
    words = [f"--robot.{name}={value}" for name, value in robot.items()]
    words += [f"--{name.replace('__', '.')}={value}" for name, value in flags.items()]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    program = Path(sys.executable).parent / command
    done = subprocess.run(
        [program, *words, "--play_sounds=false"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def sources(folder: Path) -> list[str]:
    return [line["source"] for line in read_motor_log(folder / "motors.jsonl") if line["event"] == "tick"]


def test_lerobot_records_what_the_scripted_leader_does(tmp_path: Path) -> None:
    run(
        "lerobot-record",
        tmp_path,
        teleop__type="sim_leader",
        dataset__repo_id="local/recorded",
        dataset__root=tmp_path / "recorded",
        dataset__single_task=TASK,
        dataset__num_episodes=1,
        dataset__episode_time_s=2,
        dataset__push_to_hub="false",
        dataset__video="false",
    )
    dataset = LeRobotDataset("local/recorded", root=tmp_path / "recorded", video_backend="pyav")
    assert (dataset.num_episodes, dataset.meta.robot_type) == (1, SO101Env.robot_type)
    assert dataset.features["action"]["names"] == list(SO101Env.action_names)
    assert dataset[0]["observation.images.front"].shape == (3, 32, 32)
    assert "command" in sources(tmp_path)


def test_lerobot_rolls_out_a_policy_of_ours(tmp_path: Path) -> None:
    env = EmbodiedSO101Env(width=32, height=32, episode_length=12)
    data = DatasetConfig(root=tmp_path / "data")
    collect(CollectConfig(env=env, dataset=data, episodes=1, keep_failures=True, workers=1))
    policy = LatentVLAConfig(preset="tiny", device="cpu")
    trained = train(
        TrainConfig(
            policy=policy,
            dataset=data,
            output_dir=tmp_path / "run",
            steps=1,
            batch_size=2,
            mixed_precision="no",
        )
    )
    run(
        "lerobot-rollout",
        tmp_path,
        policy__path=trained["checkpoint"],
        device="cpu",
        task=TASK,
        duration=1,
        return_to_initial_position="false",
    )
    assert "command" in sources(tmp_path)
