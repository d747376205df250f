"""ALOHA, PushT and SO-101 go the way that Meta-World goes: LeRobot's make_env, collect, train, evaluate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env
from lerobot.envs.utils import close_envs

from embodied.cli import main
from embodied.config import CheckpointConfig, CollectConfig, DatasetConfig, EvaluateConfig, TrainConfig
from embodied.data.collect import collect
from embodied.data.writer import EpisodeWriter
from embodied.evaluation.evaluate import evaluate
from embodied.lerobot_plugin import (
    EmbodiedAlohaEnv,
    EmbodiedPushtEnv,
    EmbodiedSO101Env,
    SimulatedEnvConfig,
)
from embodied.training.loop import train
from policies.latent_vla import LatentVLAConfig

pytestmark = pytest.mark.render

SMALL: dict[str, Any] = {"width": 32, "height": 32, "episode_length": 12}
TASKS = {
    "embodied_aloha": "transfer-cube,insertion",
    "embodied_pusht": "push-t",
    "embodied_so101": "reach-cube",
}
SIZES = {"embodied_aloha": 14, "embodied_pusht": 2, "embodied_so101": 6}


@pytest.fixture(params=TASKS)
def env(request: pytest.FixtureRequest) -> SimulatedEnvConfig:
    """Short episodes of every task, in small pictures."""
    return EnvConfig.get_choice_class(request.param)(task=TASKS[request.param], **SMALL)


def test_lerobot_makes_and_steps_every_task(env: SimulatedEnvConfig) -> None:
    envs = make_env(env, n_envs=2)
    assert ",".join(envs) == TASKS[env.type]
    for task, group in envs.items():
        vector: Any = group[0]
        observation, _ = vector.reset(seed=[0, 1])
        assert observation["pixels"][env.camera_names[0]].shape == (2, 32, 32, 3)
        assert observation["agent_pos"].shape == (2, SIZES[env.type])
        *_, info = vector.step(observation["agent_pos"])
        assert info["is_success"].tolist() == [False, False]
        assert vector.call("task") == (task, task)
        assert vector.call("_max_episode_steps") == (12, 12)
    close_envs(envs)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (
            EmbodiedAlohaEnv,
            {"task": "transfer-cub"},
            "--env.task=transfer-cub: expected some of transfer-cube",
        ),
        (EmbodiedAlohaEnv, {"task": "insertion,insertion"}, "--env.task=insertion,insertion: .* each once"),
        (EmbodiedAlohaEnv, {"cameras": "corner"}, "camera 'corner': expected one of top"),
        (EmbodiedAlohaEnv, {"fps": 30}, "--env.fps=30: expected 50"),
        (EmbodiedPushtEnv, {"task": ""}, "--env.task=: expected some of push-t"),
        (EmbodiedPushtEnv, {"cameras": "side"}, "cameras 'side': expected top"),
        (EmbodiedSO101Env, {"task": "lift"}, "--env.task=lift: expected some of reach-cube"),
        (EmbodiedSO101Env, {"cameras": "back"}, "camera 'back': expected one of front, side, top, wrist"),
    ],
)
def test_values_that_cannot_be_used_are_named(config: type, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config(**arguments)
    assert "\n" not in str(caught.value)


def recording(env: SimulatedEnvConfig, root: Path, workers: int) -> CollectConfig:
    """One cut-off episode of each behaviour per task."""
    return CollectConfig(
        env=env,
        dataset=DatasetConfig(root=root),
        episodes=1,
        disturbed_episodes=1,
        random_episodes=1,
        keep_failures=True,
        workers=workers,
    )


def stop_at(number: int) -> Callable[[EpisodeWriter, Any], None]:
    """What interrupts a collection instead of writing the episode of this number."""
    add = EpisodeWriter.add

    def stop(writer: EpisodeWriter, episode: Any) -> None:
        if writer.num_episodes == number:
            raise KeyboardInterrupt
        add(writer, episode)

    return stop


@pytest.mark.slow
def test_an_interrupted_collection_is_completed_to_the_same_files(
    env: SimulatedEnvConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second episode meets an environment that has run before, or one that is new."""
    whole = collect(recording(env, tmp_path / "whole", workers=2))
    for number in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(EpisodeWriter, "add", stop_at(number))
            with pytest.raises(KeyboardInterrupt):
                collect(recording(env, tmp_path / "stopped", workers=1))
    assert collect(recording(env, tmp_path / "stopped", workers=1))["fingerprint"] == whole["fingerprint"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_collect_train_and_evaluate(env: SimulatedEnvConfig, tmp_path: Path) -> None:
    simulated = env.env_fn(env.tasks[0])()
    collected = collect(recording(env, tmp_path / "data", workers=1))
    dataset = LeRobotDataset("local/data", root=tmp_path / "data", video_backend="pyav")
    assert collected["episodes"] == dataset.num_episodes == 3 * len(env.tasks)
    assert (dataset.meta.robot_type, dataset.fps) == (simulated.robot_type, simulated.fps)
    assert dataset.features["action"]["names"] == list(simulated.action_names)
    actions = np.stack([dataset[i]["action"] for i in range(len(dataset))])
    assert (actions >= simulated.action_space.low).all()
    assert (actions <= simulated.action_space.high).all()
    policy = LatentVLAConfig(preset="tiny", device="cpu")
    trained = train(
        TrainConfig(
            policy=policy,
            dataset=DatasetConfig(root=tmp_path / "data"),
            output_dir=tmp_path / "run",
            steps=3,
            batch_size=2,
            mixed_precision="no",
        )
    )
    result = evaluate(
        EvaluateConfig(
            policy=CheckpointConfig(path=Path(trained["checkpoint"])),
            env=env,
            episodes=1,
            num_envs=1,
            videos=1,
            output_dir=tmp_path / "evaluation",
            device="cpu",
        )
    )
    assert [task["task"] for task in result["tasks"]] == list(env.tasks)
    assert result["tasks"][0]["episode_lengths"] == [12]
    assert set(result["floors"]) == {"random", "noop"}
    assert len(list((tmp_path / "evaluation" / "videos").glob("*.mp4"))) == len(env.tasks)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_lerobots_act_trains_on_alohas_data_by_the_command_line(tmp_path: Path) -> None:
    env = EmbodiedAlohaEnv(**SMALL)
    collect(recording(env, tmp_path / "data", workers=1))
    flags = {
        "policy.type": "act",
        "policy.device": "cpu",
        "policy.pretrained_backbone_weights": "null",
        "policy.chunk_size": 4,
        "policy.n_action_steps": 4,
        "policy.dim_model": 64,
        "dataset.root": tmp_path / "data",
        "output_dir": tmp_path / "run",
        "steps": 2,
        "batch_size": 2,
        "mixed_precision": "no",
    }
    assert main(["train", *(f"--{name}={value}" for name, value in flags.items())]) == 0
    path = CheckpointConfig(path=tmp_path / "run")
    result = evaluate(EvaluateConfig(policy=path, env=env, episodes=1, num_envs=1, floors=False))
    assert (result["policy"], result["episodes"]) == ("act", 1)
