"""A sub-goal in thoughts: each is said, and looked for, after what the one before has found."""

import pytest
import torch
from torch import nn

from policies.latent_vla.subgoals import SUBGOAL, chains
from policies.latent_vla.waypoint import WAYPOINT
from tests.policies.learning import never_trained

SUBGOALS = [
    "find the green cube; touch the pin left of it",
    "find the red cube; touch the pin left of it",
    "find the red cube; touch the pin right of it",
    "wait",
]
THOUGHTS = [
    "find the green cube",
    "find the red cube",
    "touch the pin left of it",
    "touch the pin right of it",
    "wait",
]
CHAINED = {
    "imagination": "grounded",
    "imagine_subgoals": True,
    "chain_of_thought": True,
    "subgoals": SUBGOALS,
    "imagined_steps": 2,
    "mode": "imagine",
}


def taught(policy):
    """The policy as after training, where words change where it looks and looks change the next one."""
    generator = torch.Generator().manual_seed(1)
    going_on, guidance = policy.imagination.grounding.going_on, policy.imagination.grounding.guidance
    for layer in (guidance.change, going_on.where, going_on.what):
        nn.init.normal_(layer.weight, std=0.1, generator=generator)
    nn.init.normal_(policy.imagination.subgoals.words, std=10.0, generator=generator)
    return policy


def plan_of(policy, batch, told):
    """The plan (B, N, P, D) if this were thought."""
    told = torch.tensor([told]).expand(len(batch["observation.state"]), -1)
    return policy.imagination.think(policy.backbone, policy._look(batch), told, policy._looking(batch))[0]


def test_a_subgoal_is_thought_in_its_parts_and_the_last_one_again():
    distinct, numbers = chains(SUBGOALS, 3)
    assert distinct == THOUGHTS
    assert [[THOUGHTS[number] for number in row] for row in numbers] == [
        ["find the green cube", "touch the pin left of it", "touch the pin left of it"],
        ["find the red cube", "touch the pin left of it", "touch the pin left of it"],
        ["find the red cube", "touch the pin right of it", "touch the pin right of it"],
        ["wait"] * 3,
    ]


def test_thoughts_of_no_words_are_none():
    assert chains(["find the red cube;; wait; ", ";"], 2) == (
        [";", "find the red cube", "wait"],
        [[1, 2], [0, 0]],
    )


def test_a_subgoal_of_more_thoughts_than_steps_is_refused(make_policy):
    with pytest.raises(
        ValueError, match=r"imagined_steps=1: expected at least 2, the thoughts of 'find the g"
    ):
        make_policy(**CHAINED | {"imagined_steps": 1})


def test_what_is_told_of_a_batch_is_its_subgoals_thoughts(make_policy, make_batch):
    policy, batch = make_policy(**CHAINED), make_batch(("reach", "reach", "reach"))
    batch[SUBGOAL] = torch.tensor([[2], [3], [-1]])
    assert policy.imagination.told(batch).tolist() == [[1, 3], [4, 4], [-1, -1]]
    assert policy.config.subgoal_delta_indices == [0]
    assert torch.equal(
        policy.imagination.pursues(batch)[:, 0],
        policy.imagination.subgoals.read(torch.tensor([3, 4, -1]))[:, 0],
    )


def test_a_look_goes_on_from_the_one_before(make_policy, make_batch):
    policy, batch = taught(make_policy(**CHAINED)), make_batch()
    after_green, after_red = (plan_of(policy, batch, [first, 2]) for first in (0, 1))
    assert not torch.equal(after_green[:, 1], after_red[:, 1])
    policy.imagination.grounding.going_on = None
    apart = [policy.imagination.scenes(plan_of(policy, batch, [first, 2]))[:, 1] for first in (0, 1)]
    assert torch.equal(*apart)


def test_a_thought_is_said_after_what_the_one_before_has_found(make_policy, make_batch):
    policy, batch = taught(make_policy(**CHAINED)), make_batch()
    said = policy.imagine_subgoals(batch)
    assert all(len(row) == 2 and set(row) <= set(THOUGHTS) for row in said)
    numbers = [[THOUGHTS.index(thought) for thought in row] for row in said]
    told = torch.tensor(numbers)
    again, _ = policy.imagination.think(policy.backbone, policy._look(batch), told, policy._looking(batch))
    assert torch.equal(policy.imagine(batch), again)


def test_every_parameter_is_trained(make_policy, make_batch):
    policy = make_policy(**CHAINED, waypoint_loss_weight=1.0)
    batch = make_batch(("open the drawer", "reach") * 2)
    batch |= {SUBGOAL: torch.tensor([[0], [1], [2], [3]])}
    batch[WAYPOINT] = torch.ones_like(batch["observation.state"])
    assert never_trained(policy, batch) == []


def test_the_last_thought_tells_the_way(make_policy, make_batch):
    policy = taught(make_policy(**CHAINED, waypoint_loss_weight=1.0, reactive_half=False))
    batch = make_batch()
    batch[WAYPOINT] = torch.ones_like(batch["observation.state"])
    left, right = (
        policy(batch | {SUBGOAL: torch.tensor([[told]] * 2)})[1]["waypoint_loss"] for told in (1, 2)
    )
    assert left != right


def test_an_inert_chain_says_the_same_thoughts_and_looks_for_nothing(make_policy, make_batch):
    policy = make_policy(**CHAINED | {"imagination": "inert"})
    batch = make_batch() | {SUBGOAL: torch.tensor([[0], [3]])}
    assert policy.imagination.told(batch).tolist() == [[0, 2], [4, 4]]
    assert torch.isfinite(policy(batch)[1]["subgoal_loss"])
    assert policy.imagination.grounding is None


def test_thoughts_of_the_present_have_no_place_beside_imagined_futures(make_config):
    with pytest.raises(ValueError, match=r"chain_of_thought=true: expected --policy.imagination=inert or"):
        make_config(imagination="latent", world_model=True, imagine_subgoals=True, chain_of_thought=True)
    with pytest.raises(ValueError, match=r"chain_of_thought=true: expected --policy.imagine_subgoals=true"):
        make_config(imagination="inert", chain_of_thought=True)
