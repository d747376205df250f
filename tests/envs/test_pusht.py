import pickle
import subprocess
import sys
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.chunk import ChunkWrapper
from envs.pusht import BLOCK, INSTRUCTIONS, PUSHER, TASKS, PushTEnv

MIDDLE = np.full(2, 256, np.float32)


def make_stock(**arguments: Any) -> Any:
    PushTEnv().restart(seed=0)  # imports gym-pusht without its warnings
    from gym_pusht.envs import PushTEnv as StockPushT

    return StockPushT(**arguments)


def random_actions(steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 512, (steps, 2)).astype(np.float32)


def trajectory(env: PushTEnv, seed: int, actions: np.ndarray) -> np.ndarray:
    env.restart(seed=seed)
    rows = [np.append(env.privileged_state(), 0.0)]
    for action in actions:
        reward, *_ = env.advance(action)
        rows.append(np.append(env.privileged_state(), reward))
    return np.stack(rows)


def place(env: PushTEnv, pusher: tuple[float, float], block: tuple[float, float, float]) -> None:
    """Put pusher and block (x, y, angle) where they are wanted."""
    simulation = env._started()
    simulation.agent.position = pusher
    simulation.agent.velocity = (0.0, 0.0)
    simulation.block.angle = block[2]  # first: turning the block moves its origin
    simulation.block.position = block[:2]
    simulation.space.reindex_shapes_for_body(simulation.agent)
    simulation.space.reindex_shapes_for_body(simulation.block)


# The one thing it says is a recommendation to learn in [-1, 1]; LeRobot's PushT data are in pixels.
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space:UserWarning")
def test_gymnasiums_checker_accepts_the_environment() -> None:
    env = PushTEnv(width=16, height=16)
    check_env(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_the_same_actions_give_the_states_and_rewards_of_gym_pusht() -> None:
    env, stock, actions = PushTEnv(terminate_on_success=False), make_stock(), random_actions(150)
    for seed in (3, 4):
        rows = trajectory(env, seed, actions)
        observation, _ = stock.reset(seed=seed)
        expected = [[*observation, 0.0]]
        for action in actions:
            observation, reward, *_ = stock.step(action)
            expected.append([*observation, reward])
        ours = np.column_stack([rows[:, PUSHER], rows[:, BLOCK], rows[:, -1]])
        ours[:, 4] %= 2 * np.pi
        np.testing.assert_array_equal(ours[:, :-1], np.array(expected)[:, :-1])
        np.testing.assert_allclose(ours[:, -1], np.array(expected)[:, -1], atol=1e-12)
        assert np.ptp(ours[:, 4]) > 0.5, "the block was hardly touched"


def test_the_picture_is_that_of_gym_pusht() -> None:
    env, stock = PushTEnv(), make_stock(obs_type="pixels")
    np.testing.assert_array_equal(env.reset(seed=5)[0]["pixels"]["top"], stock.reset(seed=5)[0])


def test_a_seed_replays_bit_for_bit_after_another_episode() -> None:
    fresh, used, actions = PushTEnv(), PushTEnv(), random_actions(60)
    trajectory(used, 1, actions)
    np.testing.assert_array_equal(trajectory(used, 7, actions), trajectory(fresh, 7, actions))
    np.testing.assert_array_equal(used.observe()["pixels"]["top"], fresh.observe()["pixels"]["top"])


def test_each_reset_draws_the_positions_afresh_from_the_seed_in_gym_pushts_ranges() -> None:
    env = PushTEnv()
    states = []
    for seed in (0, 1, None, 0):
        env.restart(seed=seed)
        states.append(env.privileged_state())
    assert len({state.tobytes() for state in states[:3]}) == 3
    np.testing.assert_array_equal(states[3], states[0])
    for _ in range(50):
        env.restart()
        assert np.all((env.privileged_state()[PUSHER] >= 50) & (env.privileged_state()[PUSHER] < 450))


class FirstSolved(np.random.Generator):
    """Its first draws put the block onto its outline, the second ones beside it."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))
        # The block is turned about its centre of mass, 45 px from its origin, after it was placed.
        centre = 256 + 45 * np.array([-np.sin(np.pi / 4), np.cos(np.pi / 4)])
        self.draws = iter([60, 60, *(centre - (0, 45)), np.pi / 4, 60, 60, 150, 150, 0.0])

    def integers(self, *_: Any) -> Any:
        return next(self.draws)

    def uniform(self, *_: Any) -> Any:
        return next(self.draws)


def test_an_episode_never_starts_solved() -> None:
    env = PushTEnv()
    env.np_random = FirstSolved()
    info = env.restart()
    np.testing.assert_allclose(env.privileged_state()[BLOCK], (150, 150, 0), atol=1e-9)
    assert info["coverage"] < 0.5


def test_the_observation_is_a_picture_of_the_asked_size_and_the_pusher() -> None:
    env = PushTEnv(width=40, height=24)
    observation, info = env.reset(seed=0)
    assert list(observation["pixels"]) == ["top"]
    assert observation["pixels"]["top"].shape == (24, 40, 3)
    assert observation["agent_pos"].dtype == np.float32
    np.testing.assert_array_equal(observation["agent_pos"], env.privileged_state()[PUSHER])
    np.testing.assert_array_equal(env.render(), observation["pixels"]["top"])
    assert info["is_success"] is False


def test_the_picture_shows_the_pusher_where_the_state_says_it_is() -> None:
    env = PushTEnv(width=512, height=512)
    env.restart(seed=0)
    for x, y in ((100, 400), (430, 60)):
        place(env, (x, y), (256, 256, 0.0))
        red, _, blue = env.observe()["pixels"]["top"][y, x].astype(int)
        assert blue > red + 50


def test_the_pusher_goes_to_the_target_of_the_action() -> None:
    env = PushTEnv()
    env.restart(seed=0)
    place(env, (60, 60), (300, 400, 0.0))
    for _ in range(15):
        env.advance(np.array([120, 90], np.float32))
    np.testing.assert_allclose(env.observe()["agent_pos"], (120, 90), atol=0.1)


def test_a_target_beyond_the_table_counts_as_the_nearest_point_on_it() -> None:
    env = PushTEnv(terminate_on_success=False)
    far, near = np.tile(np.float32([900, -50]), (20, 1)), np.tile(np.float32([512, 0]), (20, 1))
    np.testing.assert_array_equal(trajectory(env, 0, far), trajectory(env, 0, near))
    assert env.observation_space.contains(env.observe())


# A shift of s along the diagonal of the T uncovers, per pixel, half the length of its eight edges over √2:
# 240 s / √2 of 6300 square pixels, less s² for the corners that are counted twice.
@pytest.mark.parametrize(("shift", "coverage"), [(0, 1.0), (1, 1 - 0.0268), (2, 1 - 0.0532), (4, 1 - 0.1052)])
def test_more_than_95_percent_of_the_outline_covered_is_a_success(shift: int, coverage: float) -> None:
    env = PushTEnv()
    env.restart(seed=0)
    place(env, (60, 60), (256 + shift, 256, np.pi / 4))
    reward, *_, info = env.advance(np.array([60, 60], np.float32))
    assert info["coverage"] == pytest.approx(coverage, abs=1e-4)
    assert info["is_success"] is (shift < 2)
    assert reward == pytest.approx(min(info["coverage"] / 0.95, 1.0))


def test_success_terminates_the_episode_and_nothing_else_does() -> None:
    env = PushTEnv()
    env.restart(seed=0)
    assert env.advance(MIDDLE)[1:3] == (False, False)
    place(env, (60, 60), (256, 256, np.pi / 4))
    _, terminated, truncated, info = env.advance(np.array([60, 60], np.float32))
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.advance(MIDDLE)


def test_an_episode_is_truncated_at_its_limit_and_then_refuses_to_go_on() -> None:
    env = PushTEnv(max_episode_steps=3)
    env.restart(seed=0)
    ends = [env.advance(MIDDLE)[1:3] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(RuntimeError, match="call reset first"):
        env.advance(MIDDLE)


@pytest.mark.parametrize("action", [(np.nan, 1.0), (np.inf, 1.0), (1.0,), (1.0, 2.0, 3.0)])
def test_an_action_that_would_break_the_simulation_is_refused(action: tuple[float, ...]) -> None:
    env = PushTEnv()
    env.restart(seed=0)
    with pytest.raises(ValueError, match="expected two finite numbers"):
        env.advance(np.array(action, np.float32))


def test_advance_does_not_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    env = PushTEnv()
    env.restart(seed=0)

    def draw(**_: Any) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr(env._simulation, "_render", draw)
    env.advance(MIDDLE)
    env.restart(seed=1)
    with pytest.raises(AssertionError, match="drawn"):
        env.observe()


def test_a_chunk_gives_the_observation_and_the_summed_reward_of_its_steps() -> None:
    chunked, single = ChunkWrapper(PushTEnv(), 4), PushTEnv()
    actions = random_actions(4)
    chunked.reset(seed=2)
    rewards = trajectory(single, 2, actions)[1:, -1]
    observation, reward, _, _, info = chunked.step(actions)
    assert (reward, info["steps"]) == (rewards.sum(), 4)
    np.testing.assert_array_equal(observation["agent_pos"], single.observe()["agent_pos"])


def test_an_environment_can_be_sent_to_worker_processes() -> None:
    vector = gym.vector.AsyncVectorEnv([partial(ChunkWrapper, PushTEnv(), 3)] * 2, context="forkserver")
    observation, _ = vector.reset(seed=[4, 5])
    expected, _ = PushTEnv().reset(seed=5)
    np.testing.assert_array_equal(observation["pixels"]["top"][1], expected["pixels"]["top"])
    vector.close()


def test_a_new_environment_can_be_pickled() -> None:
    env = pickle.loads(pickle.dumps(PushTEnv(max_episode_steps=50)))
    env.restart(seed=0)
    assert (env.task, env._max_episode_steps) == ("push-t", 50)


def test_nothing_is_printed_and_no_display_is_needed() -> None:
    code = "from envs.pusht import PushTEnv; PushTEnv().reset(seed=0)"
    environment = {"SDL_VIDEODRIVER": "none-such", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_instruction_can_be_replaced() -> None:
    assert PushTEnv(TASKS[0]).task_description == INSTRUCTIONS["push-t"]
    assert PushTEnv(instruction="move the T").task_description == "move the T"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "pusht"}, "'pusht': expected push-t"),
        ({"cameras": ("roof",)}, "'roof': expected top"),
        ({"cameras": ()}, "expected top"),
        ({"cameras": ("top", "top")}, "once"),
        ({"height": 4}, "96 x 4 pixels"),
        ({"max_episode_steps": 0}, "max_episode_steps=0"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PushTEnv(**arguments)
