"""Whose cue an episode acts on, told by arms that know."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from embodied.evaluation.memory_choices import choice_rows, count_choices, pairs_of_seeds, run_pair
from embodied.rollout import Episode
from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tasks.memory import CUE


class KnowingAgent:
    """Scripted experts that act on their own cue, on each other's, or not at all."""

    chunk_steps = 6
    stateful = True
    sociable = True

    def __init__(self, task: str, whose: str) -> None:
        self.task, self.whose = task, whose
        self.envs: list[SO101Env] = []

    def make_env(self) -> SO101Env:
        env = SO101Env(self.task, width=32, height=32, cameras=("front",))
        self.envs = [*self.envs, env][-2:]
        return env

    def begin(self, action_space: gym.spaces.Box) -> None:
        self.experts = [make_expert(self.task) for _ in self.envs]
        for expert in self.experts:
            expert.reset()
        self.actions = [env.privileged_state()[:6] for env in self.envs]

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        assert observation["agent_pos"].shape == (2, 6)
        assert observation["pixels"]["front"].shape == (2, 32, 32, 3)
        states = [env.privileged_state() for env in self.envs]
        place = 6 + 7 * (len(self.envs[0].landmarks()) - 1) + CUE
        if self.whose == "other":
            states[0][place], states[1][place] = states[1][place], states[0][place]
        if self.whose == "none":
            return np.repeat(observation["agent_pos"][:, None], self.chunk_steps, axis=1)
        actions = [expert.act(state) for expert, state in zip(self.experts, states, strict=True)]
        return np.stack(actions)[:, None]


@pytest.mark.parametrize(
    ("task", "whose"),
    [
        ("memory-1", "own"),
        ("memory-1", "other"),
        ("memory-1", "none"),
        ("memory-2", "other"),
        ("memory-3", "other"),
    ],
)
def test_what_is_chosen_is_told_by_whose_cue_it_was(task: str, whose: str) -> None:
    agent = KnowingAgent(task, whose)
    seeds = next(pairs_of_seeds(agent.make_env, 0))
    assert run_pair(agent, agent.make_env, task, seeds) == (whose, whose)


def test_pairs_have_different_cues_and_no_seed_comes_twice() -> None:
    agent = KnowingAgent("memory-1", "none")
    pairs = pairs_of_seeds(agent.make_env, 5)
    seeds = [seed for _ in range(6) for seed in next(pairs)]
    assert len(set(seeds)) == 12
    assert min(seeds) >= 5


def test_choices_of_several_pairs_are_counted() -> None:
    agent = KnowingAgent("memory-1", "other")
    found = count_choices(agent, agent.make_env, "memory-1", pairs=2, first_seed=0)
    assert found == {"own": 0, "other": 4, "third": 0, "none": 0}


def test_a_line_sums_up_all_checkpoints() -> None:
    counts = {"memory-1 kept": [dict(own=3, other=1, third=0, none=0), dict(own=4, other=0, third=0, none=0)]}
    (row,) = choice_rows(counts)
    assert row[:4] == ["memory-1", "kept", "88 % (53 to 98 %)", "12 % (2 to 47 %)"]
