from typing import Any

import gymnasium as gym
import numpy as np

from embodied.evaluation.floors import NoopAgent, RandomAgent
from embodied.rollout import Episode

SPACE = gym.spaces.Box(np.float32([[-2, 0]] * 5), np.float32([[-1, 3]] * 5))


def decide(agent: Any, seeds: list[int]) -> np.ndarray:
    agent.begin(SPACE)
    episodes = [Episode(task="east", seed=seed) for seed in seeds]
    return agent.act({}, [""] * len(seeds), episodes, [0] * len(seeds))


def test_random_actions_stay_in_bounds_and_follow_the_seed() -> None:
    chunks = decide(RandomAgent(5), [3, 4])
    assert chunks.shape == (2, 5, 2)
    assert (chunks >= SPACE.low).all()
    assert (chunks <= SPACE.high).all()
    np.testing.assert_array_equal(decide(RandomAgent(5), [4])[0], chunks[1])
    assert not np.array_equal(chunks[0], chunks[1])


def test_noop_is_zero() -> None:
    np.testing.assert_array_equal(decide(NoopAgent(5), [3, 4]), np.zeros((2, 5, 2)))
