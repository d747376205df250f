"""Refining proposed chunks, and the plan mode that does it."""

import pytest
import torch

from policies.latent_vla.refinement import refine

PLANNING = {"world_model": True, "mode": "plan", "candidates": 8}


def closeness(optimum):
    """Scores chunks by how close they are to `optimum`."""
    return lambda chunks: -(chunks - optimum).square().sum((2, 3))


@pytest.fixture
def proposals():
    return torch.randn(2, 16, 4, 1, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise():
    return torch.randn(2, 8 * 16, 4, 1, generator=torch.Generator().manual_seed(1))


def test_a_chunk_better_than_any_proposed_is_found_between_them(proposals, noise):
    score = closeness(0.2)
    chunk = refine(score, proposals, score(proposals), noise)
    assert (score(chunk[:, None])[:, 0] > 0.2 * score(proposals).amax(1)).all()


def test_what_no_proposal_does_is_never_done(proposals, noise):
    """The best chunk would be at 9; the search stops at the edge of the proposals."""
    score = closeness(9.0)
    chunk = refine(score, proposals, score(proposals), noise)
    assert (chunk <= proposals.amax(1) + 1e-6).all()
    assert (score(chunk[:, None])[:, 0] >= score(proposals).amax(1)).all()


def test_refined_chunks_score_at_least_as_much_as_ranked_ones(make_policy, make_batch):
    batch = make_batch()
    ranking, refining = make_policy(**PLANNING), make_policy(**PLANNING, planner="cem", refinements=3)
    for parameter in ranking.foresight.model.parameters():  # an untrained one foresees no change
        torch.nn.init.normal_(parameter, std=0.1)
    refining.load_state_dict(ranking.state_dict())
    noise = torch.randn(2, *refining.config.noise_shape)
    assert noise.shape == (2, 4 * 8, 12, 4)
    chunks = [
        ranking.predict_action_chunk(batch, noise=noise[:, :8]),
        refining.predict_action_chunk(batch, noise=noise),
    ]
    latents, _ = ranking._observe(batch)
    goal = ranking.foresight.goal(ranking.backbone, ranking._read(batch))
    scores = ranking.foresight.score(latents, torch.stack(chunks, dim=1), goal)
    assert (scores[:, 1] > scores[:, 0]).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"planner": "cme"}, "--policy.planner=cme: expected one of rank, cem"),
        ({"planner": "cem", "ranking": "shuffled"}, "--policy.ranking=shuffled: expected model"),
        ({"planner": "cem", "candidates": 2}, "--policy.candidates=2: expected at least 3"),
    ],
)
def test_a_refinement_that_cannot_be_is_named(make_config, overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config(**{**PLANNING, **overrides})
