from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from embodied.evaluation.floors import NoopAgent, RandomAgent, run_expert
from embodied.rollout import Episode
from tests.fake_envs import PointEnv, PointExpert

SPACE = gym.spaces.Box(np.float32([[-2, 0]] * 5), np.float32([[-1, 3]] * 5))


def decide(agent: Any, seeds: list[int], observation: dict[str, Any] | None = None) -> np.ndarray:
    agent.begin(SPACE)
    episodes = [Episode(task="east", seed=seed) for seed in seeds]
    return agent.act(observation or {}, [""] * len(seeds), episodes, [0] * len(seeds))


def test_random_actions_stay_in_bounds_and_follow_the_seed() -> None:
    chunks = decide(RandomAgent(5, False), [3, 4])
    assert chunks.shape == (2, 5, 2)
    assert (chunks >= SPACE.low).all()
    assert (chunks <= SPACE.high).all()
    np.testing.assert_array_equal(decide(RandomAgent(5, False), [4])[0], chunks[1])
    assert not np.array_equal(chunks[0], chunks[1])


def test_noop_is_zero_where_actions_are_motions() -> None:
    np.testing.assert_array_equal(decide(NoopAgent(5, False), [3, 4]), np.zeros((2, 5, 2)))


def test_noop_stays_where_actions_are_positions() -> None:
    places = np.float32([[-1.5, 2], [-1, 1]])
    chunks = decide(NoopAgent(5, True), [3, 4], {"agent_pos": places})
    np.testing.assert_array_equal(chunks, np.stack([places] * 5, axis=1))


def test_the_expert_sees_the_state_and_nothing_is_drawn() -> None:
    env = PointEnv(length=50)
    result = run_expert(env, PointExpert(), Episode(task="east", seed=3))
    # x grows by 0.1 a step: success at step 10; the return is 0.1 + 0.2 + ... + 1.0.
    assert (result.success, result.steps, result.instruction, env.renders) == (True, 10, "go east", 0)
    assert result.reward == pytest.approx(5.5)


def test_the_expert_fails_when_time_is_up() -> None:
    result = run_expert(PointEnv(length=9), PointExpert(), Episode(task="east", seed=3))
    assert (result.success, result.steps) == (False, 9)
