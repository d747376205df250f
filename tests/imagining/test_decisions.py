"""What is kept of decisions, and which of it belongs to which look."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from embodied.errors import UserError
from embodied.evaluation.agents import ChunkAgent
from embodied.evaluation.evaluate import run_agent
from embodied.imagining.decisions import Decision, Witness, expected_scenes, looks_ahead, surprises
from embodied.rollout import Episode
from tests.fake_envs import SIZE, PointEnvConfig


def watch(loaded, seeds=(5,)) -> list[list[Decision]]:
    witness, found = Witness(loaded[0]), []
    run_agent(
        ChunkAgent(*loaded, watch=witness),
        PointEnvConfig(episode_length=9),
        [Episode(task="east", seed=seed) for seed in seeds],
        num_envs=1,
        finished=lambda result: found.append(witness.take()),
    )
    return found


@pytest.mark.parametrize("remembering", [{}, {"n_obs_steps": 2}, {"memory_tokens": 4, "memory_window": 2}])
def test_the_witness_sees_the_plan_that_was_followed(make_loaded: Callable, remembering: dict) -> None:
    """Of mode `plan`: the chunk that was acted is the best of the candidates that it saw."""
    for decisions in watch(make_loaded(mode="plan", **remembering), seeds=(5, 6)):
        assert len(decisions) == 3
        for decision in decisions:
            assert decision.pictures.shape == (1, SIZE, SIZE, 3)
            assert decision.imagined is not None
            assert decision.imagined.shape == (2, 2, 16)
            assert decision.values is not None
            assert decision.values.shape == (4,)
            assert decision.chosen == decision.values.argmax()


def test_of_an_imagined_plan_the_scenes_are_kept_without_the_sub_goals(make_loaded: Callable) -> None:
    (decisions,) = watch(make_loaded(mode="imagine", imagine_subgoals=True, subgoals=["go east", "wait"]))
    assert [decision.imagined.shape for decision in decisions] == [(2, 2, 16)] * 3


def test_watching_changes_nothing(make_loaded: Callable) -> None:
    env, episodes = PointEnvConfig(episode_length=9), [Episode(task="east", seed=5)]
    rewards = []
    for watched in (False, True):
        loaded = make_loaded(mode="plan")
        agent = ChunkAgent(*loaded, watch=Witness(loaded[0]) if watched else None)
        rewards.append(run_agent(agent, env, episodes, num_envs=1)[0].reward)
    assert rewards[0] == rewards[1]


def test_what_was_refined_need_not_be_among_the_candidates(make_loaded: Callable) -> None:
    (decisions,) = watch(make_loaded(mode="plan", planner="cem"))
    assert None in [decision.chosen for decision in decisions]


def test_expected_scenes_stand_at_the_look_that_they_tell_of(make_loaded: Callable) -> None:
    loaded = make_loaded()
    (decisions,) = watch(loaded)
    expected = expected_scenes(loaded[0], decisions)
    assert list(expected) == ["foreseen", "imagined", "imagined 2 chunks ahead"]
    assert expected["foreseen"][0] is expected["imagined"][0] is None
    assert expected["imagined 2 chunks ahead"][:2] == [None, None]
    first = decisions[0]
    assert first.imagined is not None
    assert torch.equal(expected["imagined"][1], first.imagined[0])
    assert torch.equal(expected["imagined 2 chunks ahead"][2], first.imagined[1])
    with torch.inference_mode():
        step = loaded[0].foresight.model.step(first.latents[None, None], first.chunk[None])[0]
    torch.testing.assert_close(expected["foreseen"][1], step)


def test_surprise_is_the_error_of_what_was_expected() -> None:
    """Latents 0, 1, 3, of which 1 and 1 was expected; had nothing moved, the errors were 1 and 4."""
    picture, chunk = np.zeros((1, 2, 2, 3), np.uint8), torch.zeros(1, 1)
    decisions = [
        Decision(pictures=picture, latents=torch.full((1, 2), value), chunk=chunk)
        for value in (0.0, 1.0, 3.0)
    ]
    expected = {"foreseen": [None, torch.ones(1, 2), torch.ones(1, 2)]}
    assert surprises(decisions, expected, ahead=1) == [
        {"foreseen": None, "nothing moved": None},
        {"foreseen": 0.0, "nothing moved": 1.0},
        {"foreseen": 4.0, "nothing moved": 4.0},
    ]


def test_a_chunk_that_ends_between_two_looks_is_refused(make_loaded: Callable) -> None:
    assert looks_ahead(make_loaded(n_action_steps=1)[0]) == 3
    with pytest.raises(UserError, match=r"n_action_steps=2: expected a divisor of chunk_size=3"):
        looks_ahead(make_loaded(n_action_steps=2)[0])
