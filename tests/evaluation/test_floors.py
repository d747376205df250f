from typing import Any

import gymnasium as gym
import numpy as np

from embodied.evaluation.floors import NoopAgent, RandomAgent
from embodied.rollout import Episode

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
