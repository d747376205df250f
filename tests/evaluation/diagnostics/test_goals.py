from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from embodied.evaluation.diagnostics.goals import Attempt, reach_goals, tally
from embodied.evaluation.diagnostics.scenes import Stage
from embodied.rollout import Episode
from tests.fake_envs import PointEnvConfig


class Homing:
    """Goes where the goal's picture is as bright as what it sees, at some speed."""

    stateful = False
    sociable = False

    def __init__(self, speed: float = 1.0, chunk_steps: int = 2) -> None:
        self.speed, self.chunk_steps = speed, chunk_steps

    def begin(self, action_space: gym.spaces.Box) -> None:
        pass

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        bright = [float(observation[key]["corner"].mean()) for key in ("goal", "pixels")]
        action = np.array([self.speed * np.sign(bright[0] - bright[1]), 0.0], np.float32)
        return np.tile(action, (1, self.chunk_steps, 1))


@pytest.fixture
def stages() -> list[Stage]:
    return [Stage(PointEnvConfig(episode_length=40), "east")]


def test_a_planner_that_goes_to_the_goal_gets_there(stages: list[Stage]) -> None:
    found = reach_goals(Homing(), stages, goals=3, seed=100)
    (row,) = found["tasks"]
    assert (row["task"], row["goals"], row["excluded"], row["successes"]) == ("east", 3, 0, 3)
    assert row["expert_steps"] == [10, 10, 10]
    assert row["floors"] == {"random": 0.0}  # a random walk of 20 steps of 0.1 does not come to x = 1
    assert (row["low"], row["high"]) == pytest.approx((0.438, 1.0), abs=1e-3)  # Wilson, 3 of 3
    assert found["decision_ms"]["p50"] > 0


@pytest.mark.parametrize(("speed", "success"), [(0.51, True), (0.49, False)])
def test_it_has_twice_the_experts_steps(stages: list[Stage], speed: float, success: bool) -> None:
    found = reach_goals(Homing(speed), stages, goals=1, seed=100)
    assert bool(found["tasks"][0]["successes"]) is success


def test_goals_that_the_expert_does_not_reach_are_left_out() -> None:
    (row,) = reach_goals(Homing(), [Stage(PointEnvConfig(episode_length=9), "east")], goals=2, seed=100)[
        "tasks"
    ]
    assert (row["goals"], row["excluded"], row["success_rate"], row["low"]) == (0, 2, None, None)


def test_rates_are_over_the_goals_that_count() -> None:
    attempts = [
        Attempt(task="push", expert_steps=30, planner=True, random=False),
        Attempt(task="push", expert_steps=40, planner=False, random=True),
        Attempt(task="push", expert_steps=50, planner=True, random=False),
        Attempt(task="push", expert_steps=60, planner=True, random=False),
        Attempt(task="reach", expert_steps=9, planner=False, random=False),
    ]
    push, reach = tally(attempts, {"push": 1, "reach": 0})["tasks"]
    assert (push["success_rate"], push["floors"]["random"], push["excluded"]) == (0.75, 0.25, 1)
    assert (reach["success_rate"], reach["goals"]) == (0.0, 1)
