from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.chunk import ChunkableEnv, ChunkWrapper


class Counter(ChunkableEnv):
    """Adds up its actions; ends at a total of 10, is cut off after 8 steps."""

    def __init__(self) -> None:
        self.action_space = gym.spaces.Box(-1.0, 3.0, (2,), np.float32)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.looks = self.steps = 0
        self.total = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.total = 0, 0.0
        return self.observe(), {}

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.total += float(action[0])
        is_success = self.total >= 10
        return float(action[1]), is_success, self.steps == 8, {"is_success": is_success}

    def observe(self) -> np.ndarray:
        self.looks += 1
        return np.array([self.total], np.float32)


def wrapped(chunk_steps: int) -> tuple[ChunkWrapper, Counter]:
    env = Counter()
    wrapper = ChunkWrapper(env, chunk_steps)
    wrapper.reset()
    env.looks = 0
    return wrapper, env


def test_a_chunk_is_executed_whole_rewards_add_up_and_only_its_end_is_rendered() -> None:
    wrapper, env = wrapped(4)
    chunk = [[1, 0.5], [1, 0.25], [0, 2], [2, 0]]
    observation, reward, terminated, truncated, info = wrapper.step(np.array(chunk))
    assert observation.tolist() == [4.0]
    assert reward == 2.75
    assert (terminated, truncated) == (False, False)
    assert info == {"is_success": False, "steps": 4}
    assert env.looks == 1


def test_execution_stops_at_termination() -> None:
    wrapper, env = wrapped(8)
    observation, reward, terminated, truncated, info = wrapper.step(np.full((8, 2), 3.0))
    assert observation.tolist() == [12.0]
    assert reward == 12.0
    assert (terminated, truncated) == (True, False)
    assert info == {"is_success": True, "steps": 4}
    assert (env.steps, env.looks) == (4, 1)


def test_execution_stops_at_truncation() -> None:
    wrapper, env = wrapped(6)
    wrapper.step(np.zeros((6, 2)))
    *_, terminated, truncated, info = wrapper.step(np.zeros((6, 2)))
    assert (terminated, truncated, info["steps"], env.steps) == (False, True, 2, 8)


def test_a_shorter_chunk_is_welcome() -> None:
    wrapper, _ = wrapped(6)
    assert wrapper.step(np.ones((2, 2)))[-1]["steps"] == 2


def test_the_action_space_is_the_chunk_with_the_bounds_of_one_action() -> None:
    wrapper, _ = wrapped(3)
    space = wrapper.action_space
    assert isinstance(space, gym.spaces.Box)
    assert space.shape == (3, 2)
    assert (space.low.min(), space.low.max(), space.high.min(), space.high.max()) == (-1, -1, 3, 3)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros((4, 2)), r"shape \(4, 2\): expected \(1 to 3, 2\)"),
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        (np.zeros((2, 4)), r"shape \(2, 4\)"),
        (np.zeros(2), r"shape \(2,\)"),
        (np.array([[0, np.nan]]), "NaN"),
        (np.array([[np.inf, 0]]), "infinite"),
    ],
)
def test_chunks_that_cannot_be_executed_are_refused(chunk: np.ndarray, message: str) -> None:
    wrapper, env = wrapped(3)
    with pytest.raises(ValueError, match=message):
        wrapper.step(chunk)
    assert env.steps == 0


def test_a_chunk_has_at_least_one_step() -> None:
    with pytest.raises(ValueError, match="chunk_steps=0: expected at least 1"):
        ChunkWrapper(Counter(), 0)


def test_step_is_advance_then_observe() -> None:
    env = Counter()
    env.reset()
    observation, reward, *_ = env.step(np.array([3.0, 0.5]))
    assert (observation.tolist(), reward, env.looks) == ([3.0], 0.5, 2)
