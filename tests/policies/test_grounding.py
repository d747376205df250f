"""Grounded plans: what a sub-goal names is looked for in the present pictures."""

import pytest
import torch
from torch import nn

from policies.latent_vla.subgoals import SUBGOAL
from tests.policies.learning import never_trained

TEXTS = ["touch the red pad", "touch the green pad", "wait"]
GROUNDED = {
    "imagination": "grounded",
    "imagine_subgoals": True,
    "subgoals": TEXTS,
    "imagined_steps": 1,
    "mode": "imagine",
}


def taught(policy):
    """The policy with words that change where it looks, as after training; at first they change nothing."""
    generator = torch.Generator().manual_seed(1)
    nn.init.normal_(policy.imagination.grounding.guidance.change.weight, std=0.1, generator=generator)
    nn.init.normal_(policy.imagination.subgoals.meanings, generator=generator)
    nn.init.normal_(policy.imagination.subgoals.words, std=10.0, generator=generator)
    return policy


def plan_of(policy, batch, told):
    """The plan if these sub-goals (B, N) were pursued."""
    context = policy._look(batch)
    return policy.imagination.think(policy.backbone, context, torch.tensor(told), policy._looking(batch))[0]


def test_what_is_seen_follows_from_what_is_said_and_from_the_pictures(make_policy, make_batch):
    policy, batch = taught(make_policy(**GROUNDED)), make_batch()
    red, green, again = (plan_of(policy, batch, [[told]] * 2) for told in (0, 1, 0))
    assert torch.equal(red, again)
    scenes = policy.imagination.scenes
    assert (scenes(red) - scenes(green)).abs().amin(dim=(1, 2)).max() > 0
    elsewhere = batch | {key: value.flip(0) for key, value in batch.items() if "images" in key}
    torch.testing.assert_close(scenes(red), scenes(plan_of(policy, elsewhere, [[0]] * 2)).flip(0))


def test_a_plan_is_grounded_in_what_the_policy_itself_says(make_policy, make_batch):
    policy, batch = taught(make_policy(**GROUNDED)), make_batch()
    said = [[TEXTS.index(text) for text in row] for row in policy.imagine_subgoals(batch)]
    assert torch.equal(policy.imagine(batch), plan_of(policy, batch, said))


def test_each_step_of_a_longer_plan_is_said_after_what_was_seen_before_it(make_policy, make_batch):
    policy, batch = taught(make_policy(**GROUNDED | {"imagined_steps": 2})), make_batch()
    context, look = policy._look(batch), policy._looking(batch)
    logits = [
        policy.imagination.think(policy.backbone, context, torch.tensor([[told, -1]] * 2), look)[1]
        for told in (0, 1)
    ]
    assert torch.equal(logits[0][:, 0], logits[1][:, 0])
    assert not torch.equal(logits[0][:, 1], logits[1][:, 1])


def test_the_action_depends_on_where_the_plan_looks(make_policy, make_batch):
    policy, batch = make_policy(**GROUNDED), make_batch()
    noise = torch.zeros(2, *policy.config.noise_shape)
    before = policy.predict_action_chunk(batch, noise=noise)
    nn.init.normal_(
        policy.imagination.grounding.guidance.change.weight, generator=torch.Generator().manual_seed(1)
    )
    policy.reset()
    assert not torch.equal(policy.predict_action_chunk(batch, noise=noise), before)
    policy.config.mode = "reactive"
    policy.reset()
    at_once = policy.predict_action_chunk(batch, noise=noise)
    nn.init.normal_(
        policy.imagination.grounding.guidance.change.weight, generator=torch.Generator().manual_seed(2)
    )
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(batch, noise=noise), at_once)


def test_all_of_a_batch_can_learn_after_imagining(make_policy, make_batch):
    """Then no row acts at once, and every row's sub-goal is learned."""
    batch = make_batch() | {SUBGOAL: torch.tensor([[0], [1]])}
    halves, whole = (make_policy(**GROUNDED, reactive_half=half) for half in (True, False))
    assert {"action_loss", "imagine_action_loss"} <= set(halves(batch)[1])
    assert "action_loss" not in whole(batch)[1]
    changed = batch | {SUBGOAL: torch.tensor([[0], [2]])}
    nn.init.normal_(whole.imagination.subgoals.words, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(halves.imagination.subgoals.words, generator=torch.Generator().manual_seed(0))
    losses = [[policy(each)[1]["subgoal_loss"] for each in (batch, changed)] for policy in (halves, whole)]
    assert torch.equal(*losses[0])
    assert not torch.equal(*losses[1])


@pytest.mark.parametrize("history", [1, 2])
def test_every_parameter_is_trained(history, make_policy, make_batch):
    policy = make_policy(**GROUNDED, n_obs_steps=history)
    batch = make_batch(("open the drawer", "reach") * 2, steps=None if history == 1 else history)
    batch |= {SUBGOAL: torch.tensor([[0], [1], [2], [0]])}
    assert never_trained(policy, batch) == []
    assert policy.imagination.grounding.guidance.embed.weight.grad.abs().sum() > 0


def test_a_checkpoint_keeps_no_second_copy_of_the_words(make_policy):
    names = make_policy(**GROUNDED).state_dict()
    assert not any("words" in name and "grounding" in name for name in names)


def test_a_grounded_plan_needs_words(make_config):
    with pytest.raises(ValueError, match="imagination=grounded: expected"):
        make_config(imagination="grounded")
