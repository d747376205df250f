"""Imagination, plans and how a checkpoint decides."""

import math

import pytest
import torch

from policies.latent_vla.trajectories import STEPS_TO_SUCCESS, future_outcomes, is_exploration

HORIZON = 12


@pytest.fixture
def make_future_batch(make_batch):
    """A training batch with two future moments: four rows, the last of a failed episode."""

    def make(steps_to_success=(5.0, 30.0, torch.nan, torch.inf)):
        batch = make_batch(("open the drawer", "reach") * 2, steps=3, horizon=2 * HORIZON)
        return batch | {
            "observation.state_is_pad": torch.zeros(4, 3, dtype=torch.bool),
            "next.reward": torch.arange(8.0).reshape(4, 2),
            STEPS_TO_SUCCESS: torch.tensor(steps_to_success),
        }

    return make


def observation(batch):
    """The present moment of a training batch."""
    timed = (*[key for key in batch if key.startswith("observation.images")], "observation.state")
    return {key: value[:, 0] if key in timed else value for key, value in batch.items()}


@pytest.fixture
def thinker(make_policy):
    """A policy that can decide in all three ways, its weights no longer those of a fresh one."""
    policy = make_policy(world_model=True, imagination="latent", temperature=1.0, candidates=6)
    generator = torch.Generator().manual_seed(5)
    for parameter in policy.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def test_every_part_of_the_loss_reaches_its_parameters(thinker, make_future_batch) -> None:
    loss, metrics = thinker(make_future_batch())
    loss.backward()
    untouched = [name for name, parameter in thinker.named_parameters() if parameter.grad is None]
    assert untouched == []
    assert {"action_loss", "imagine_action_loss", "imagination_loss", "dynamics_loss", "sigreg_loss"} <= set(
        metrics
    )


def test_imagination_is_taught_by_successes_only(make_policy, make_future_batch) -> None:
    policy = make_policy(world_model=True, imagination="latent")
    failed = make_future_batch((torch.inf,) * 4)
    _, metrics = policy(failed)
    assert metrics["imagination_loss"] == 0


def test_the_future_does_not_leak_into_what_is_imagined_or_done(thinker, make_future_batch) -> None:
    batch = observation(make_future_batch())
    thinker.config.mode = "imagine"
    noise = torch.zeros(4, HORIZON, 4)
    changed = batch | {"action": batch["action"] + 1, "next.reward": batch["next.reward"] + 1}
    assert torch.equal(
        thinker.predict_action_chunk(batch, noise=noise), thinker.predict_action_chunk(changed, noise=noise)
    )


def test_in_imagine_mode_the_instruction_reaches_the_action_through_the_plan_alone(
    thinker, make_future_batch
) -> None:
    batch = observation(make_future_batch())
    thinker.config.mode = "imagine"
    noise = torch.zeros(4, HORIZON, 4)
    chunk = thinker.predict_action_chunk(batch, noise=noise)
    other = batch | {key: batch[key].roll(1, 0) for key in batch if key.startswith("observation.language")}
    assert not torch.allclose(chunk, thinker.predict_action_chunk(other, noise=noise), atol=1e-5)
    fixed = torch.zeros(4, 2, 3, 32)
    thinker.imagination.imagine = lambda backbone, context, look: fixed
    same = thinker.predict_action_chunk(batch, noise=noise)
    assert torch.allclose(same, thinker.predict_action_chunk(other, noise=noise), atol=1e-5)


def test_inert_tokens_say_the_same_about_every_scene(make_policy, make_future_batch) -> None:
    policy = make_policy(imagination="inert")
    batch = observation(make_future_batch())
    instruction = policy._read(batch)
    latents, state = policy._observe(batch)
    context = policy.backbone.extend(instruction, [policy._scene(latents, state)])
    plan = policy.imagination.imagine(policy.backbone, context)
    assert torch.equal(plan[0], plan[1])
    assert plan.shape == (4, 2, 3, 32)


def test_plan_takes_the_candidate_with_the_best_foreseen_outcome(thinker, make_future_batch) -> None:
    thinker.config.mode = "plan"
    batch = observation(make_future_batch())
    noise = torch.randn(4, 6, HORIZON, 4, generator=torch.Generator().manual_seed(2))
    seen = {}

    def score(latents, candidates, goal, imagined):
        seen["candidates"] = candidates
        return torch.eye(6)[torch.tensor([3, 0, 5, 1])]

    thinker.foresight.score = score
    chunk = thinker.predict_action_chunk(batch, noise=noise)
    for row, best in enumerate((3, 0, 5, 1)):
        assert torch.equal(chunk[row], seen["candidates"][row, best])


def test_a_plan_does_not_depend_on_who_else_is_in_the_batch(thinker, make_future_batch) -> None:
    thinker.config.mode = "plan"
    batch = observation(make_future_batch())
    noise = torch.randn(4, 6, HORIZON, 4, generator=torch.Generator().manual_seed(2))
    together = thinker.predict_action_chunk(batch, noise=noise.clone())
    tensors = {key: value[1:2] for key, value in batch.items()}
    assert torch.allclose(
        together[1:2], thinker.predict_action_chunk(tensors, noise=noise[1:2].clone()), atol=1e-4
    )


@pytest.mark.parametrize("exploration", [0.0, 1.0])
def test_all_candidates_may_act_alike(thinker, make_future_batch, exploration) -> None:
    thinker.config.mode, thinker.config.exploration = "plan", exploration
    batch = observation(make_future_batch())
    assert thinker.predict_action_chunk(batch).shape == (4, HORIZON, 4)


def test_shuffled_ranking_ignores_the_world_model(thinker, make_future_batch) -> None:
    thinker.config.mode, thinker.config.ranking = "plan", "shuffled"
    batch = observation(make_future_batch())
    noise = torch.randn(4, 6, HORIZON, 4, generator=torch.Generator().manual_seed(2))
    before = thinker.predict_action_chunk(batch, noise=noise.clone())
    thinker.foresight.score = lambda *_, **__: torch.zeros(4, 6)
    assert torch.equal(before, thinker.predict_action_chunk(batch, noise=noise.clone()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "imagine"}, "expected reactive, which it was trained for"),
        ({"mode": "plan"}, "expected reactive, which it was trained for"),
        (
            {"imagination": "inert", "reactive_half": False},
            "reactive: expected imagine, which it was trained for",
        ),
        ({"mode": "imagine", "world_model": True}, "expected reactive or plan, which it was trained for"),
        ({"mode": "dream"}, "expected one of reactive, imagine, plan"),
        ({"imagination": "latent"}, "expected --policy.world_model=true as well"),
        ({"imagination": "vivid"}, "expected one of none, latent, inert"),
        ({"ranking": "best"}, "expected one of model, shuffled"),
        ({"exploration": 1.5}, "expected 0 to 1"),
        ({"candidates": 0}, "expected at least 1"),
    ],
)
def test_a_mode_that_cannot_work_is_refused(make_config, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**fields)


def test_outcomes_follow_from_the_steps_to_success(make_future_batch) -> None:
    batch = make_future_batch()
    outcomes = future_outcomes(batch, 1, HORIZON, torch.tensor([1.0, 2.0]))
    assert outcomes.success[:2].tolist() == [[1, 1], [0, 0]]
    assert outcomes.success[2].isnan().all()
    assert outcomes.success[3].tolist() == [0, 0]
    assert outcomes.reward[1].tolist() == pytest.approx([(math.log(3) - 1) / 2, (math.log(4) - 1) / 2])
    assert outcomes.state.shape == (4, 2, 4)
    assert is_exploration(batch).tolist() == [False, False, False, True]


def test_a_batch_that_tells_no_success_is_imitated(make_batch) -> None:
    assert is_exploration(make_batch()).tolist() == [False, False]
