from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from embodied.evaluation.agents import ChunkAgent, StepAgent, make_agent
from embodied.evaluation.evaluate import run_agent
from embodied.rollout import Episode
from tests.fake_envs import PointEnvConfig

EPISODES = [Episode(task="east", seed=seed) for seed in (0, 40, 90)]


def outcomes(agent: Any, num_envs: int = 1) -> list[tuple[bool, int, float]]:
    results = run_agent(agent, PointEnvConfig(episode_length=8), EPISODES, num_envs=num_envs)
    return [(result.success, result.steps, result.reward) for result in results]


def look(seeds: list[int], looks: list[int]) -> tuple[Any, ...]:
    observation = {
        "pixels": {"corner": np.full((len(seeds), 32, 32, 3), 100, np.uint8)},
        "agent_pos": np.zeros((len(seeds), 2), np.float32),
    }
    return (
        observation,
        ["go east"] * len(seeds),
        [Episode(task="east", seed=seed) for seed in seeds],
        looks,
    )


def test_whole_chunks_act_like_select_action_step_by_step(make_loaded: Callable[..., Any]) -> None:
    # 8 steps in chunks of 3: the last chunk is cut off by the time limit.
    loaded = make_loaded("act", n_action_steps=3)
    by_chunks, by_steps = (
        np.array(outcomes(agent(*loaded)), dtype=float) for agent in (ChunkAgent, StepAgent)
    )
    np.testing.assert_allclose(by_chunks, by_steps, rtol=1e-5)


def test_deterministic_policy_scores_the_same_with_any_number_of_environments(
    make_loaded: Callable[..., Any],
) -> None:
    agent = make_agent(*make_loaded("act"))
    np.testing.assert_allclose(outcomes(agent, 1), outcomes(agent, 3), rtol=1e-5)


def test_flow_matching_scores_the_same_with_any_number_of_environments(
    make_loaded: Callable[..., Any],
) -> None:
    agent = make_agent(*make_loaded("latent_vla", n_action_steps=6))
    np.testing.assert_allclose(outcomes(agent, 1), outcomes(agent, 3), rtol=1e-5)


def test_noise_depends_on_the_environment_seed_and_the_decision_alone(
    make_loaded: Callable[..., Any],
) -> None:
    agent = make_agent(*make_loaded("latent_vla"))
    batch = agent.act(*look([7, 8, 7], [0, 0, 1]))
    torch.manual_seed(123)
    np.testing.assert_allclose(agent.act(*look([8], [0]))[0], batch[1], rtol=1e-4, atol=1e-6)
    assert np.abs(batch[0] - batch[1]).max() > 0.01
    assert np.abs(batch[0] - batch[2]).max() > 0.01


@pytest.mark.parametrize(
    ("kind", "overrides", "agent_class", "stateful"),
    [
        ("act", {}, ChunkAgent, False),
        ("act", {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}, StepAgent, True),
        ("latent_vla", {}, ChunkAgent, False),
        ("latent_vla", {"n_obs_steps": 2}, ChunkAgent, True),
        ("latent_vla", {"memory_tokens": 2, "memory_window": 4}, ChunkAgent, True),
    ],
)
def test_a_policy_acts_by_chunks_where_these_are_all_it_does(
    make_loaded: Callable[..., Any], kind: str, overrides: dict, agent_class: type, stateful: bool
) -> None:
    agent = make_agent(*make_loaded(kind, **overrides))
    assert type(agent) is agent_class
    assert agent.stateful is stateful


def test_memory_scores_the_same_with_any_number_of_environments(make_loaded: Callable[..., Any]) -> None:
    loaded = make_loaded("latent_vla", n_action_steps=3, memory_tokens=2, memory_window=4)
    agent = make_agent(*loaded)
    remembered = outcomes(agent, 1)
    np.testing.assert_allclose(remembered, outcomes(agent, 3), rtol=1e-5)
    loaded[0].config.memory = "wiped"
    assert np.abs(np.array(outcomes(agent, 1)) - np.array(remembered)).max() > 1e-4


def test_temporal_ensemble_runs_in_several_environments(make_loaded: Callable[..., Any]) -> None:
    agent = make_agent(*make_loaded("act", temporal_ensemble_coeff=0.01, n_action_steps=1))
    np.testing.assert_allclose(outcomes(agent, 1), outcomes(agent, 2), rtol=1e-5)
