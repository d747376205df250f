"""The environment-policy loop, on an environment whose answers are known by hand."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from embodied.rollout import Episode, default_num_envs, rollout
from tests.fake_envs import PointEnv, PointExpert


class EastAgent:
    """Full speed along x; notes the size of each batch and how often it began."""

    def __init__(self, chunk_steps: int = 1, stateful: bool = False, speed: float = 1.0) -> None:
        self.chunk_steps = chunk_steps
        self.stateful = stateful
        self.sociable = False
        self.speed = speed
        self.batches: list[int] = []
        self.beginnings = 0

    def begin(self, action_space: gym.spaces.Box) -> None:
        self.beginnings += 1

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        self.batches.append(len(episodes))
        assert len(observation["agent_pos"]) == len(instructions) == len(looks) == len(episodes)
        return np.tile(np.float32([self.speed, 0]), (len(episodes), self.chunk_steps, 1))


class FeedbackAgent(EastAgent):
    """Acts on what it sees and on how often it looked, so that a mixed-up seat changes the result."""

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        brightness = observation["pixels"]["corner"].mean(axis=(1, 2, 3)) / 255
        speed = np.clip(brightness + observation["agent_pos"][:, 1] + 0.1 * np.array(looks), -1, 1)
        return np.tile(np.stack([speed, speed], axis=1)[:, None], (1, self.chunk_steps, 1))


def run(agent: Any, seeds: list[int], length: int | None = None, num_envs: int = 1, **kwargs: Any) -> Any:
    episodes = [Episode(task="east", seed=seed, **kwargs) for seed in seeds]
    env_fns = {"east": partial(PointEnv, length=length)}
    return rollout(env_fns, agent, episodes, num_envs=num_envs, progress=False)


def test_success_ends_an_episode_inside_a_chunk() -> None:
    (result,) = run(EastAgent(chunk_steps=8), [0], length=50)
    # x grows by 0.1 a step: success at step 10, in the second chunk; the return is 0.1 + 0.2 + ... + 1.0.
    assert (result.success, result.steps, len(result.decision_seconds)) == (True, 10, 2)
    assert result.reward == pytest.approx(5.5)


def test_episodes_are_told_of_as_they_end() -> None:
    """Lengths 30, 4 and 5 on two seats: the first is the last to end."""
    ended: list[int] = []
    episodes = [Episode(task="east", seed=seed) for seed in (30, 4, 5)]
    env_fns = {"east": PointEnv}
    slow = EastAgent(speed=0.0)
    results = rollout(
        env_fns,
        slow,
        episodes,
        num_envs=2,
        progress=False,
        finished=lambda result: ended.append(result.episode.seed),
    )
    assert ended == [4, 5, 30]
    assert [result.episode.seed for result in results] == [30, 4, 5]


def test_time_limit_ends_an_episode_without_success() -> None:
    (result,) = run(EastAgent(chunk_steps=3), [0], length=7)
    assert (result.success, result.steps, len(result.decision_seconds)) == (False, 7, 3)


def test_results_do_not_depend_on_the_number_of_environments() -> None:
    seeds = [13, 2, 31, 7, 4, 25, 11]
    rows = [
        [(r.episode.seed, r.success, r.steps, r.reward) for r in run(FeedbackAgent(3), seeds, num_envs=n)]
        for n in (1, 3)
    ]
    assert rows[0] == rows[1]
    assert [row[0] for row in rows[0]] == seeds


def test_a_seat_takes_the_next_episode_while_others_run() -> None:
    agent = EastAgent(speed=0.0)
    results = run(agent, [4, 1, 1, 1, 1], num_envs=2)
    assert [result.steps for result in results] == [4, 1, 1, 1, 1]
    assert agent.batches == [2, 2, 2, 2]


def test_episodes_of_a_stateful_agent_start_and_stay_together() -> None:
    agent = EastAgent(stateful=True, speed=0.0)
    results = run(agent, [3, 1, 1, 2], num_envs=2)
    assert [result.steps for result in results] == [3, 1, 1, 2]
    assert agent.batches == [2, 2, 2, 2, 2]
    assert agent.beginnings == 3


def test_pictures_are_drawn_once_per_chunk() -> None:
    env = PointEnv(length=10)
    rollout({"east": lambda: env}, EastAgent(5, speed=0.0), [Episode(task="east", seed=0)], num_envs=1)
    assert env.renders == 1 + 2


def test_recording_keeps_pictures_and_changes_no_result() -> None:
    plain, recorded = (run(EastAgent(8), [0], length=50, record=record)[0] for record in (False, True))
    assert (plain.steps, plain.reward, plain.success) == (recorded.steps, recorded.reward, recorded.success)
    assert plain.frames is None
    # The environment's 40 frames a second are kept at 20: steps 0, 2, 4, 6, 8 and the success at 10.
    assert recorded.frames.shape == (6, 32, 32, 3)
    assert recorded.frames[-1].mean() == 255


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_recorded_episode_names_its_sub_goals(num_envs: int) -> None:
    episodes = [Episode(task="east", seed=seed, record=seed > 0) for seed in (0, 1)]
    env_fns, expert_fns = {"east": partial(PointEnv, length=50)}, {"east": PointExpert}
    plain, recorded = rollout(
        env_fns, EastAgent(8), episodes, num_envs=num_envs, expert_fns=expert_fns, progress=False
    )
    # x is 0.5 after 5 steps; the film has a picture every 2.
    assert recorded.stages == [(0, "go east"), (6, "arrive in the east")]
    assert plain.stages == []


def test_a_seat_changes_from_task_to_task() -> None:
    env_fns = {task: partial(PointEnv, task, length=2) for task in ("east", "west")}
    episodes = [Episode(task=task, seed=0) for task in ("east", "west", "east")]
    results = rollout(env_fns, EastAgent(), episodes, num_envs=1, progress=False)
    assert [result.instruction for result in results] == ["go east", "go west", "go east"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # gymnasium reports the worker's error as warnings, too
@pytest.mark.parametrize("num_envs", [1, 2])
def test_an_error_in_an_environment_reaches_the_caller(num_envs: int) -> None:
    with pytest.raises(ValueError, match="left the plane"):
        run(EastAgent(speed=-1.0), [50, 51], num_envs=num_envs)


def test_no_more_environments_than_episodes() -> None:
    assert default_num_envs(1) == 1
