import pickle
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gym_aloha.constants import START_ARM_POSE
from gymnasium.utils.env_checker import check_env

from envs.aloha import (
    HIGHEST,
    INSTRUCTIONS,
    LOWEST,
    TASKS,
    VIEWS,
    AlohaEnv,
    actuator_targets,
    check_views,
    insertion_reward,
    joint_numbers,
    load_model,
    transfer_cube_reward,
)
from envs.chunk import ChunkWrapper

START = joint_numbers(np.array(START_ARM_POSE, np.float64)).astype(np.float32)
LEFT_FINGER = "vx300s_left/10_left_gripper_finger"
RIGHT_FINGER = "vx300s_right/10_right_gripper_finger"
every_task = pytest.mark.parametrize("task", TASKS)


def wandering_actions(steps: int) -> np.ndarray:
    """Targets that wander away from the start pose, within the action space."""
    low, high = np.array(LOWEST * 2), np.array(HIGHEST * 2)
    walk = np.random.default_rng(0).normal(0.0, 0.03, (steps, 14)).cumsum(axis=0)
    return np.clip(START + walk, low, high).astype(np.float32)


def trajectory(env: AlohaEnv, seed: int, steps: int) -> np.ndarray:
    """States and rewards of an episode of wandering actions."""
    env.restart(seed=seed)
    rows = [np.append(env.privileged_state(), 0.0)]
    for action in wandering_actions(steps):
        reward, *_ = env.advance(action)
        rows.append(np.append(env.privileged_state(), reward))
    return np.stack(rows)


class Unrendered:
    """gym-aloha's own environment, put into a state of ours, without its pictures."""

    def __init__(self, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # Or dm_control would close, at the end of the process, the OpenGL display that everybody shares.
        monkeypatch.setenv("MUJOCO_GL", "off")
        import gym_aloha.env
        from dm_control.mujoco import Physics
        from gym_aloha.tasks import sim

        monkeypatch.setattr(Physics, "render", lambda *_, **__: np.zeros((1, 1, 3), np.uint8))
        self.env = gym_aloha.env.AlohaEnv(task.replace("-", "_"), obs_type="pixels_agent_pos")
        self._boxes = sim.BOX_POSE

    def reset(self, objects: np.ndarray) -> np.ndarray:
        self._boxes[0] = objects
        return self.env._env.reset().observation["qpos"]


# The checker would have actions between -1 and 1; ours are radians, as in ALOHA's data sets.
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
@pytest.mark.render
@every_task
def test_gymnasiums_checker_accepts_the_environment(task: str) -> None:
    env = AlohaEnv(task, width=16, height=16)
    check_env(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    env.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@every_task
def test_the_same_actions_lead_where_they_lead_in_gym_aloha(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, env = Unrendered(task, monkeypatch), AlohaEnv(task, terminate_on_success=False)
    env.restart(seed=3)
    objects = env.privileged_state()[16 : env._running().model.nq]
    np.testing.assert_array_equal(stock.reset(objects), joint_numbers(env.privileged_state()))
    for action in wandering_actions(150):
        reward, *_ = env.advance(action)
        observation, expected, _, _, info = stock.env.step(action)
        np.testing.assert_allclose(
            joint_numbers(env.privileged_state()), observation["agent_pos"], rtol=0, atol=1e-12
        )
        assert (reward, info["is_success"]) == (expected, expected == 4)


@every_task
def test_a_seed_replays_bit_for_bit_after_another_episode(task: str) -> None:
    fresh, used = (AlohaEnv(task, terminate_on_success=False) for _ in range(2))
    trajectory(used, seed=3, steps=60)
    np.testing.assert_array_equal(trajectory(used, seed=7, steps=30), trajectory(fresh, seed=7, steps=30))


@pytest.mark.render
def test_the_pictures_of_a_seed_replay_bit_for_bit() -> None:
    fresh, used = (AlohaEnv("insertion", cameras=("top", "front")) for _ in range(2))
    used.reset(seed=1)
    for action in wandering_actions(5):
        used.step(action)
    pictures = [env.reset(seed=5)[0]["pixels"] for env in (fresh, used)]
    for camera in ("top", "front"):
        np.testing.assert_array_equal(pictures[0][camera], pictures[1][camera])


@pytest.mark.parametrize(
    ("task", "ranges"),
    [
        ("transfer-cube", [((0.0, 0.2), (0.4, 0.6))]),
        ("insertion", [((0.1, 0.2), (0.4, 0.6)), ((-0.2, -0.1), (0.4, 0.6))]),
    ],
)
def test_objects_start_all_over_gym_alohas_ranges(task: str, ranges: list) -> None:
    env, places = AlohaEnv(task), []
    for seed in range(60):
        env.restart(seed=seed)
        places.append(env.privileged_state()[16 : env._running().model.nq].reshape(-1, 7))
    for number, area in enumerate(ranges):
        poses = np.stack(places)[:, number]
        np.testing.assert_array_equal(poses[:, 2:], np.tile([0.05, 1, 0, 0, 0], (60, 1)))
        for axis, (low, high) in enumerate(area):
            assert low <= poses[:, axis].min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < poses[:, axis].max() <= high


def test_numpys_global_generator_is_neither_read_nor_moved() -> None:
    env = AlohaEnv("insertion")
    np.random.seed(1)
    env.restart(seed=0)
    first = env.privileged_state()
    np.random.seed(2)
    before = np.random.get_state()[1]
    env.restart(seed=0)
    np.testing.assert_array_equal(env.privileged_state(), first)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@every_task
def test_the_action_space_is_what_the_actuators_accept(task: str) -> None:
    env, model = AlohaEnv(task), load_model(task)
    arms = [*range(6), *range(8, 14)]
    ours = [*range(6), *range(7, 13)]
    np.testing.assert_allclose(env.action_space.low[ours], model.actuator_ctrlrange[arms, 0])
    np.testing.assert_allclose(env.action_space.high[ours], model.actuator_ctrlrange[arms, 1])
    assert env.action_space.contains(START)


def test_the_numbers_of_the_joints_are_also_their_targets() -> None:
    np.testing.assert_allclose(actuator_targets(START.astype(np.float64)), START_ARM_POSE, atol=1e-8)


def test_joints_go_where_the_action_says_by_name() -> None:
    env = AlohaEnv("transfer-cube")
    assert env.action_names[:2] == ("left_waist", "left_shoulder")
    assert env.action_names[6] == "left_gripper"
    assert env.action_names[13] == "right_gripper"
    for name, target in (("left_waist", 0.3), ("right_wrist_rotate", -0.4), ("right_gripper", 0.8)):
        action = START.copy()
        action[env.action_names.index(name)] = target
        env.restart(seed=0)
        for _ in range(100):
            env.advance(action)
        moved = joint_numbers(env.privileged_state()) - START
        assert env.state_names[np.abs(moved).argmax()] == name
        assert START[env.action_names.index(name)] + moved[np.abs(moved).argmax()] == pytest.approx(
            target, abs=0.05
        )


@pytest.mark.parametrize(
    ("contacts", "reward"),
    [
        ({("red_box", "table")}, 0),
        ({("red_box", "table"), ("red_box", RIGHT_FINGER)}, 1),
        ({("red_box", RIGHT_FINGER)}, 2),
        ({("red_box", "table"), ("red_box", RIGHT_FINGER), ("red_box", LEFT_FINGER)}, 3),
        ({("red_box", RIGHT_FINGER), ("red_box", LEFT_FINGER)}, 4),
        ({("red_box", LEFT_FINGER)}, 4),
    ],
)
def test_the_transfers_reward_counts_its_stages(contacts: set, reward: int) -> None:
    assert transfer_cube_reward(contacts) == reward


PEG, SOCKET = ("red_peg", RIGHT_FINGER), ("socket-3", LEFT_FINGER)


@pytest.mark.parametrize(
    ("contacts", "reward"),
    [
        ({PEG}, 0),
        ({PEG, SOCKET, ("socket-1", "table")}, 1),
        ({PEG, SOCKET, ("red_peg", "table")}, 1),
        ({PEG, SOCKET}, 2),
        ({PEG, SOCKET, ("red_peg", "socket-2")}, 3),
        ({PEG, SOCKET, ("red_peg", "socket-2"), ("red_peg", "table")}, 1),
        ({PEG, SOCKET, ("red_peg", "pin")}, 4),
    ],
)
def test_the_insertions_reward_counts_its_stages(contacts: set, reward: int) -> None:
    assert insertion_reward(contacts) == reward


@pytest.mark.render
def test_the_observation_is_pictures_of_the_asked_size_and_the_joints() -> None:
    env = AlohaEnv("insertion", cameras=tuple(VIEWS), width=40, height=24)
    observation, info = env.reset(seed=0)
    assert list(observation["pixels"]) == list(VIEWS)
    assert {picture.shape for picture in observation["pixels"].values()} == {(24, 40, 3)}
    assert len({picture.tobytes() for picture in observation["pixels"].values()}) == len(VIEWS)
    assert info == {"is_success": False}
    assert observation["agent_pos"].dtype == np.float32
    np.testing.assert_allclose(observation["agent_pos"], START, atol=1e-6)
    np.testing.assert_array_equal(env.render(), observation["pixels"]["top"])
    env.close()


@pytest.mark.render
@pytest.mark.parametrize("camera", ["top", "angle", "front", "back", "close_top"])
def test_small_pictures_show_peg_and_socket_wherever_they_start(camera: str) -> None:
    env = AlohaEnv("insertion", cameras=(camera,))
    for seed in range(8):
        picture = env.reset(seed=seed)[0]["pixels"][camera].astype(int)
        red, blue = picture[..., 0] - picture[..., 2], picture[..., 2] - picture[..., 0]
        assert (red > 80).sum() >= 10, seed
        assert (blue > 80).sum() >= 20, seed
    env.close()


def test_an_episode_is_truncated_at_its_limit_and_then_refuses_to_go_on() -> None:
    env = AlohaEnv("transfer-cube", max_episode_steps=3)
    env.restart(seed=0)
    ends = [env.advance(START)[1:3] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(RuntimeError, match="call reset first"):
        env.advance(START)
    env.restart()
    env.advance(START)


@pytest.mark.parametrize(("terminates", "ends"), [(True, (True, False)), (False, (False, True))])
def test_success_ends_the_episode_unless_it_is_left_to_go_on(
    terminates: bool, ends: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = AlohaEnv("transfer-cube", max_episode_steps=1, terminate_on_success=terminates)
    env.restart(seed=0)
    monkeypatch.setattr(env._running(), "contacts", lambda: {("red_box", LEFT_FINGER)})
    reward, terminated, truncated, info = env.advance(START)
    assert (reward, terminated, truncated) == (4.0, *ends)
    assert info == {"is_success": True}


def test_a_simulation_that_diverges_ends_the_episode_without_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file
    env = AlohaEnv("transfer-cube", terminate_on_success=False)
    env.restart(seed=0)
    env._running().data.qvel[3] = np.inf
    reward, terminated, truncated, info = env.advance(START)
    assert (reward, terminated, truncated, info) == (0.0, True, False, {"is_success": False})
    env.restart(seed=0)
    assert env.advance(START)[1:3] == (False, False)


def test_advance_does_not_render() -> None:
    env = AlohaEnv("insertion")
    env.restart(seed=0)
    env.advance(START)
    assert env._renderer is None


@pytest.mark.parametrize("action", [np.zeros(13, np.float32), np.full(14, np.nan, np.float32)])
def test_an_action_that_is_none_is_refused(action: np.ndarray) -> None:
    env = AlohaEnv("insertion")
    env.restart(seed=0)
    with pytest.raises(ValueError, match="expected 14 finite numbers"):
        env.advance(action)


def test_use_before_the_first_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="first reset"):
        AlohaEnv("insertion").privileged_state()


def test_the_instruction_can_be_replaced() -> None:
    assert set(INSTRUCTIONS) == set(TASKS)
    assert AlohaEnv("insertion").task_description == INSTRUCTIONS["insertion"]
    assert AlohaEnv("insertion", instruction="plug it in").task_description == "plug it in"


@pytest.mark.render
def test_an_environment_can_be_sent_to_worker_processes() -> None:
    def make() -> ChunkWrapper:
        return ChunkWrapper(AlohaEnv("insertion", width=16, height=16), 3)

    local, chunk = make(), wandering_actions(3)
    vector = gym.vector.AsyncVectorEnv([partial(ChunkWrapper, make().env, 3)] * 2, context="forkserver")
    observation, _ = vector.reset(seed=[4, 5])
    for row, seed in enumerate((4, 5)):
        expected, _ = local.reset(seed=seed)
        np.testing.assert_array_equal(observation["pixels"]["top"][row], expected["pixels"]["top"])
    observation, *_, info = vector.step(np.stack([chunk, chunk]))
    expected = local.step(chunk)[0]
    np.testing.assert_array_equal(observation["pixels"]["top"][1], expected["pixels"]["top"])
    np.testing.assert_array_equal(observation["agent_pos"][1], expected["agent_pos"])
    assert info["steps"].tolist() == [3, 3]
    vector.close()
    local.close()


def test_a_new_environment_can_be_pickled() -> None:
    env = pickle.loads(pickle.dumps(AlohaEnv("transfer-cube", max_episode_steps=50)))
    env.restart(seed=0)
    assert (env.task, env._max_episode_steps) == ("transfer-cube", 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "fold-towel"}, "'fold-towel': expected one of transfer-cube, insertion"),
        ({"cameras": ("top", "roof")}, "'roof': expected one of top, angle"),
        ({"cameras": ("corner",)}, "'corner': expected one of top, angle"),
        ({"cameras": ()}, "one or more"),
        ({"cameras": ("top", "top")}, "each once"),
        ({"height": 4}, "96 x 4 pixels"),
        ({"max_episode_steps": 0}, "max_episode_steps=0: expected at least 1"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlohaEnv(**({"task": "insertion"} | arguments))


def test_camera_names_can_be_checked_before_an_environment_is_made() -> None:
    check_views(("top", "left_wrist"))
    with pytest.raises(ValueError, match="'gripper': expected one of top"):
        check_views(("gripper",))
