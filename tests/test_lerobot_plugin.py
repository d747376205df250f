from importlib.metadata import distribution
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import EnvConfig
from lerobot.envs.factory import make_env
from lerobot.envs.utils import close_envs, env_to_policy_features
from lerobot.utils.import_utils import register_third_party_plugins

from embodied.errors import UserError
from embodied.lerobot_plugin import EmbodiedMetaworldEnv, simulator_type
from envs.metaworld_tasks import MT50
from tests.fake_envs import PointEnvConfig


def test_lerobot_finds_our_policy_and_environment_by_the_distribution_name() -> None:
    register_third_party_plugins()
    assert distribution("lerobot_policy_embodied").metadata["Name"] == "lerobot_policy_embodied"
    assert {"latent_mpc", "latent_vla"} <= PreTrainedConfig.get_known_choices().keys()
    assert EnvConfig.get_choice_class("embodied_metaworld") is EmbodiedMetaworldEnv


def test_policy_features_are_named_as_in_our_data_sets() -> None:
    features = env_to_policy_features(EmbodiedMetaworldEnv(cameras="corner, top", width=64, height=48))
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        "action": (4,),
        "observation.state": (4,),
        "observation.images.corner": (3, 48, 64),
        "observation.images.top": (3, 48, 64),
    }


def test_task_sets_and_lists_are_expanded() -> None:
    assert EmbodiedMetaworldEnv(task="push,reach").tasks == ("push", "reach")
    assert EmbodiedMetaworldEnv(task="mt50").tasks == MT50


def test_arguments_reach_the_environment() -> None:
    config = EmbodiedMetaworldEnv(
        cameras="top", width=32, height=24, episode_length=7, instruction="go there", goal_color="1,0,0.5"
    )
    env: Any = config.env_fn("reach")()
    assert env.observation_space["pixels"]["top"].shape == (24, 32, 3)
    assert (env.task, env.task_description, env._max_episode_steps) == ("reach", "go there", 7)
    assert config.gym_kwargs["goal_color"] == (1.0, 0.0, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "raech"}, "raech.*reach"),
        ({"task": ""}, "expected mt10, mt50"),
        ({"cameras": "corner,ceiling"}, "ceiling.*expected one of corner"),
        ({"cameras": ""}, "expected one or more"),
        ({"width": 0}, "--env.width=0: expected"),
        ({"episode_length": 0}, "--env.episode_length=0: expected"),
        ({"goal_color": "red"}, "--env.goal_color=red: expected three numbers"),
        ({"goal_color": "1,0,2"}, "--env.goal_color=1,0,2: expected three numbers"),
    ],
)
def test_values_that_cannot_be_used_are_named_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        EmbodiedMetaworldEnv(**arguments)
    assert "\n" not in str(caught.value)


def test_colour_error_is_ours() -> None:
    with pytest.raises(UserError):
        EmbodiedMetaworldEnv(goal_color="1,0")


def test_processes_of_a_task_start_at_its_first_reset() -> None:
    envs = make_env(EmbodiedMetaworldEnv(task="mt50", width=16, height=16), n_envs=2, use_async_envs=True)
    vectors: list[Any] = [group[0] for group in envs.values()]
    assert list(envs) == list(MT50)
    assert all(vector.num_envs == 2 and vector._env is None for vector in vectors)


def test_an_environment_that_has_ended_keeps_still() -> None:
    envs = make_env(PointEnvConfig(episode_length=2), n_envs=2)
    vector: Any = envs["east"][0]
    vector.reset(seed=[50, 51], options={"lerobot_new_rollout": True})
    east = np.float32([[1, 0], [1, 0]])
    for _ in range(4):
        observation, rewards, _, truncated, info = vector.step(east)
    assert truncated.tolist() == [True, True]
    np.testing.assert_allclose(observation["agent_pos"][:, 0], 0.2, rtol=1e-6)
    assert rewards.tolist() == [0, 0]
    assert info["is_success"].tolist() == [False, False]
    assert vector.call("_max_episode_steps") == (2, 2)
    close_envs(envs)


@pytest.mark.render
def test_lerobot_steps_our_environment_and_reads_what_it_needs() -> None:
    envs = make_env(EmbodiedMetaworldEnv(task="reach,push", width=32, height=32, episode_length=3), n_envs=1)
    vector = envs["push"][0]
    assert isinstance(vector, gym.vector.SyncVectorEnv)
    observation, _ = vector.reset(seed=[0])
    assert observation["pixels"]["gripper"].shape == (1, 32, 32, 3)
    assert observation["agent_pos"].shape == (1, 4)
    assert vector.unwrapped.metadata["render_fps"] == 80
    assert vector.call("task") == ("push",)
    assert vector.call("task_description")[0] != vector.call("task")[0]
    assert vector.call("render")[0].shape == (32, 32, 3)
    *_, info = vector.step(np.zeros((1, 4), np.float32))
    assert info["is_success"].tolist() == [False]
    close_envs(envs)


@pytest.mark.parametrize(
    ("task", "simulator"),
    [
        ("mt10", "embodied_metaworld"),
        ("push,reach", "embodied_metaworld"),
        ("reach-cube", "embodied_so101"),
        ("insertion", "embodied_aloha"),
        ("push-t", "embodied_pusht"),
    ],
)
def test_the_tasks_tell_their_simulator(task: str, simulator: str) -> None:
    assert simulator_type(task) == simulator
