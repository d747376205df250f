from collections.abc import Sequence

import numpy as np
import pytest

from embodied.evaluation.diagnostics.model import Observation
from embodied.evaluation.diagnostics.ranking import (
    Trials,
    blind_scores,
    compare,
    correlations,
    dense_returns,
    rank_candidates,
)
from embodied.evaluation.diagnostics.scenes import Stage
from tests.evaluation.diagnostics.conftest import PointWorld


class PointProposer:
    """Proposes its noise, and knows what it will return: the sum of x over the chunk."""

    noise_shape = (4, 2)
    exploration = 0.5

    def propose(
        self, looks: Sequence[Observation], instruction: str, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        assert instruction == "go east"
        chunks = noise.clip(-1, 1)
        reached = looks[-1]["agent_pos"][0] + 0.1 * chunks[..., 0].cumsum(1)
        return chunks, reached.sum(1)


def trials(scores: np.ndarray, returns: np.ndarray, chunks: np.ndarray) -> Trials:
    states = len(scores)
    return Trials(
        scores=scores,
        returns=returns,
        chunks=chunks,
        proprioception=np.random.default_rng(1).normal(size=(states, 2)),
        tasks=np.array(["east"] * (states // 2) + ["west"] * (states - states // 2)),
        exploring=chunks.shape[1] // 2,
    )


def test_states_in_which_no_chunk_makes_a_difference_are_undefined() -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    returns = np.array([[10.0, 20.0, 30.0], [5.0, 5.0, 5.0], [3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(correlations(scores, returns).round(9), [1.0, np.nan, -1.0])


def test_a_model_that_finds_all_chunks_equally_good_knows_nothing() -> None:
    np.testing.assert_array_equal(correlations(np.ones((1, 3)), np.array([[1.0, 2.0, 3.0]])), [0.0])


def test_a_model_that_sees_the_state_beats_predictors_that_do_not() -> None:
    draw = np.random.default_rng(0)
    chunks = draw.normal(size=(40, 12, 3, 1))
    sign = draw.choice([-1.0, 1.0], size=(40, 1))  # which way is good: to be seen in the picture only
    returns = 100 * draw.normal(size=(40, 1)) + sign * chunks.sum((2, 3))
    found = compare(trials(returns, returns, chunks), seed=0)
    assert found["spearman"] == pytest.approx(1.0)
    assert (found["low"], found["high"]) == pytest.approx((1.0, 1.0))
    assert (found["demonstrated"], found["exploring"]) == pytest.approx((1.0, 1.0))
    assert sorted(found["floors"]) == [
        "chunk_and_state_mlp",
        "chunk_and_state_ridge",
        "chunk_mlp",
        "chunk_ridge",
        "random",
    ]
    assert abs(found["floors"]["random"]) < 0.25
    assert [(row["task"], row["states"]) for row in found["tasks"]] == [("east", 20), ("west", 20)]


def test_what_the_chunk_alone_tells_is_found_on_other_states() -> None:
    draw = np.random.default_rng(0)
    chunks = draw.normal(size=(20, 16, 3, 1))
    returns = 100 * draw.normal(size=(20, 1)) + chunks[:, :, 0, 0]
    blind = blind_scores(trials(returns, returns, chunks), seed=0)
    assert np.median(correlations(blind["chunk_ridge"], returns)) > 0.98
    assert np.median(correlations(blind["chunk_and_state_mlp"], returns)) > 0.8


def test_what_depends_on_proprioception_needs_it() -> None:
    draw = np.random.default_rng(0)
    chunks = draw.normal(size=(60, 16, 2, 1))
    given = trials(np.empty((60, 16)), np.empty((60, 16)), chunks)
    returns = np.sign(given.proprioception[:, :1]) * chunks[:, :, 0, 0]
    blind = blind_scores(trials(returns, returns, chunks), seed=0)
    assert np.median(correlations(blind["chunk_mlp"], returns)) < 0.5
    assert np.median(correlations(blind["chunk_and_state_mlp"], returns)) > 0.8


def test_chunks_are_tried_out_in_the_present_state_which_stays(stage: Stage) -> None:
    stage.env.restart(seed=12)
    stage.env.advance(np.float32([1, 0]))
    east, west = np.float32([[1, 0], [1, 0]]), np.float32([[-1, 0], [-1, 0]])
    # From x = 0.1: 0.2 + 0.3, 0 - 0.1.
    np.testing.assert_allclose(dense_returns(stage.env, np.stack([east, west])), [0.5, -0.1], atol=1e-9)
    np.testing.assert_allclose(stage.env.privileged_state(), [0.1, 0.12])


def test_in_the_simulator_a_proposer_that_knows_the_returns_ranks_perfectly(stage: Stage) -> None:
    found = rank_candidates(
        PointWorld(history=2),
        PointProposer(),
        [stage],
        states=6,
        candidates=8,
        movers=("noisy", "expert"),
        seed=100,
    )
    assert (found["states"], found["candidates"], found["undefined"]) == (6, 8, 0)
    assert found["spearman"] == pytest.approx(1.0)
