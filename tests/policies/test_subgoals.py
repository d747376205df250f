"""Sub-goals between imagined scenes: what is learned of them, said, and read, and in which order."""

import math

import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig

from policies.latent_vla.interventions import Calibration
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.subgoals import (
    BLOCK_ORDERS,
    SUBGOAL,
    Subgoals,
    in_order,
    subgoal_accuracy,
    subgoal_loss,
)
from policies.latent_vla.trajectories import STEPS_TO_SUCCESS
from tests.policies.sentences import give_meanings, give_words

HORIZON = 12
TEXTS = ["move above it", "grasp it", "lift it"]
SPEAKS = {
    "world_model": True,
    "imagination": "latent",
    "imagine_subgoals": True,
    "subgoals": TEXTS,
    "mode": "imagine",
}


@pytest.fixture
def make_told_batch(make_batch):
    """A training batch of four rows with two future moments; the sub-goals are the rows'."""

    def make(told=((0, 1), (1, 2), (0, 1), (1, 2))):
        batch = make_batch(("open the drawer", "reach") * 2, steps=3, horizon=2 * HORIZON)
        return batch | {
            "observation.state_is_pad": torch.zeros(4, 3, dtype=torch.bool),
            STEPS_TO_SUCCESS: torch.full((4,), 30.0),
            SUBGOAL: torch.tensor(told),
        }

    return make


def observation(batch):
    """The present moment of a training batch."""
    timed = (*[key for key in batch if key.startswith("observation.images")], "observation.state")
    return {key: value[:, 0] if key in timed else value for key, value in batch.items()}


def test_only_told_sub_goals_count() -> None:
    """Logits 0 and log 3 give chances of 1/4 and 3/4; the last one is unknown."""
    logits = torch.tensor([[[0.0, math.log(3)], [0.0, math.log(3)], [0.0, 100.0]]])
    told = torch.tensor([[1, 0, -1]])
    assert subgoal_loss(logits, told).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert subgoal_accuracy(logits, told).item() == 0.5
    assert subgoal_loss(logits, torch.full((1, 3), -1)).item() == 0


def test_a_told_sub_goal_is_read_in_place_of_the_likeliest(make_policy, make_told_batch) -> None:
    policy = make_policy(**SPEAKS)
    give_meanings(policy.imagination.subgoals, torch.tensor([[10.0], [20.0], [30.0]]).expand(3, 32))
    context = policy._look(observation(make_told_batch()))
    own, logits = policy.imagination.think(policy.backbone, context)
    expected = [10 * (1 + number) for number in logits[:, 0].argmax(1).tolist()]
    assert own[:, 0, -1, 0].tolist() == pytest.approx(expected, rel=1e-4)
    plan, _ = policy.imagination.think(policy.backbone, context, torch.tensor([[0, 1], [2, -1]] * 2))
    assert plan[:, 0, -1, 0].tolist() == pytest.approx([10, 30] * 2, rel=1e-4)
    assert plan[:, 1, -1, 0].tolist()[::2] == pytest.approx([20, 20], rel=1e-4)


def test_orders_of_sub_goals_and_scenes() -> None:
    said, seen = [torch.tensor(0), torch.tensor(1)], [torch.tensor(10), torch.tensor(11)]
    ordered = {order: [block.item() for block in in_order(order, said, seen)] for order in BLOCK_ORDERS}
    assert ordered["interleaved"] == [0, 10, 1, 11]
    assert ordered["grouped"] == [10, 11, 0, 1]
    assert sorted(ordered["shuffled"]) == [0, 1, 10, 11]
    assert ordered["shuffled"] not in (ordered["interleaved"], ordered["grouped"])
    assert ordered["shuffled"] == [block.item() for block in in_order("shuffled", said, seen)]


def test_without_sub_goals_the_network_is_what_it_would_be_if_they_were_never_thought_of(make_policy) -> None:
    """Their parameters come on top, and draw no random numbers, so that both arms start alike."""
    silent = make_policy(**SPEAKS | {"imagine_subgoals": False}).state_dict()
    speaking = make_policy(**SPEAKS).state_dict()
    added = {name for name in speaking if name not in silent}
    assert added == {
        f"imagination.subgoals.{name}" for name in ("norm.weight", "norm.bias", "words", "meanings")
    }
    assert all(torch.equal(value, speaking[name]) for name, value in silent.items())


@pytest.mark.parametrize("order", BLOCK_ORDERS)
def test_every_part_learns_in_every_order(order, make_policy, make_told_batch) -> None:
    policy = make_policy(**SPEAKS, block_order=order)
    loss, metrics = policy(make_told_batch())
    loss.backward()
    assert metrics["subgoal_loss"].item() == pytest.approx(math.log(3))
    assert policy.imagination.subgoals.words.grad.abs().sum() > 0
    assert policy.imagination.subgoals.meanings.grad.abs().sum() > 0


@pytest.mark.parametrize(("order", "same"), [("interleaved", False), ("shuffled", False), ("grouped", True)])
def test_a_sub_goal_shapes_the_scenes_after_it_unless_grouped(
    order, same, make_policy, make_told_batch
) -> None:
    policy = make_policy(**SPEAKS, block_order=order)
    give_meanings(policy.imagination.subgoals, torch.randn(3, 32, generator=torch.Generator().manual_seed(2)))
    context = policy._look(observation(make_told_batch()))
    plans = [
        policy.imagination.scenes(
            policy.imagination.think(policy.backbone, context, torch.tensor([[0, told]] * 4))[0]
        )
        for told in (0, 1)
    ]
    assert torch.equal(plans[0][:, 0], plans[1][:, 0])
    assert torch.equal(plans[0][:, 1], plans[1][:, 1]) == same


def test_a_failed_episode_teaches_no_sub_goal(make_policy, make_told_batch) -> None:
    batch = make_told_batch() | {STEPS_TO_SUCCESS: torch.full((4,), torch.inf)}
    _, metrics = make_policy(**SPEAKS)(batch)
    assert metrics["subgoal_loss"] == 0


def test_a_batch_without_sub_goals_trains_without_their_loss(make_policy, make_told_batch) -> None:
    batch = make_told_batch()
    del batch[SUBGOAL]
    loss, metrics = make_policy(**SPEAKS)(batch)
    loss.backward()
    assert not any(name.startswith("subgoal") for name in metrics)
    assert loss.isfinite()


def test_after_one_batch_is_learned_the_policy_says_the_right_sentences(make_policy, make_told_batch) -> None:
    """Every other row is imagined: of four the first and the third."""
    policy = make_policy(**SPEAKS)
    batch = make_told_batch(told=((0, 1), (0, 1), (1, 2), (1, 2)))
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(100):
        loss, _ = policy(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said = policy.imagine_subgoals(observation(batch))
    assert said[::2] == [["move above it", "grasp it"], ["grasp it", "lift it"]]


def test_the_plan_of_a_speaking_policy_holds_a_token_of_each_sub_goal(make_policy, make_told_batch) -> None:
    policy = make_policy(**SPEAKS)
    plan = policy.imagine(observation(make_told_batch()))
    assert plan.shape == (4, 2, 4, 32)
    assert policy.imagination.scenes(plan).shape == (4, 2, 3, 32)
    assert [block.shape[1] for block in policy.imagination.blocks(plan)] == [1, 3, 1, 3]


def test_with_inert_scenes_a_plan_is_in_words_alone(make_policy, make_told_batch) -> None:
    """Neither a world model nor future moments are needed; what is said still depends on what is seen."""
    policy = make_policy(**SPEAKS | {"imagination": "inert", "world_model": False})
    assert policy.config.observation_delta_indices is None
    give_meanings(policy.imagination.subgoals, torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 32))
    give_words(policy.imagination.subgoals, torch.randn(3, 32, generator=torch.Generator().manual_seed(2)))
    batch = observation(make_told_batch())
    plan = policy.imagine(batch)
    scenes = policy.imagination.scenes(plan)
    assert torch.equal(scenes, policy.imagination.constants.expand_as(scenes))
    expected = [TEXTS.index(said[0]) + 1 for said in policy.imagine_subgoals(batch)]
    assert plan[:, 0, -1, 0].tolist() == pytest.approx(expected, rel=1e-4)
    loss, metrics = policy(batch | {"action": make_told_batch()["action"]})
    loss.backward()
    assert metrics["subgoal_loss"] > 0
    assert policy.imagination.subgoals.words.grad.abs().sum() > 0


def test_an_intervention_replaces_sub_goals_as_well(make_policy, make_told_batch) -> None:
    """With every plan the calibration's, what was said here no longer matters."""
    policy = make_policy(**SPEAKS, intervention="mean")
    give_meanings(policy.imagination.subgoals, torch.randn(3, 32, generator=torch.Generator().manual_seed(2)))
    batch = observation(make_told_batch())
    tokens, mask = (batch[f"observation.language.{key}"] for key in ("tokens", "attention_mask"))
    policy.calibration = Calibration(plans=policy.imagine(batch), tokens=tokens, mask=mask)
    noise = torch.zeros(4, HORIZON, 4)
    before = policy.predict_action_chunk(batch, noise=noise)
    give_words(policy.imagination.subgoals, torch.eye(3)[1][:, None].expand(3, 32))
    policy.imagination.subgoals.norm.bias.data += 1.0
    assert policy.imagine_subgoals(batch) == [["grasp it"] * 2] * 4
    assert torch.allclose(before, policy.predict_action_chunk(batch, noise=noise), atol=1e-6)
    policy.config.intervention = "none"
    assert not torch.allclose(before, policy.predict_action_chunk(batch, noise=noise), atol=1e-4)


@pytest.mark.parametrize("mode", ["imagine", "plan"])
def test_a_speaking_policy_decides_in_every_mode(mode, make_policy, make_told_batch) -> None:
    policy = make_policy(**SPEAKS | {"mode": mode}, imagination_distance_weight=1.0, candidates=4)
    chunk = policy.predict_action_chunk(observation(make_told_batch()))
    assert chunk.shape == (4, HORIZON, 4)


def test_a_checkpoint_knows_its_sentences(make_policy, make_told_batch, tmp_path) -> None:
    policy = make_policy(**SPEAKS)
    give_words(policy.imagination.subgoals, torch.eye(3)[1][:, None].expand(3, 32))
    policy.imagination.subgoals.norm.bias.data += 1.0
    policy.save_pretrained(tmp_path)
    loaded = LatentVLAPolicy.from_pretrained(tmp_path)
    batch = observation(make_told_batch())
    assert loaded.imagine_subgoals(batch) == policy.imagine_subgoals(batch) == [["grasp it"] * 2] * 4


PLACES, HUES = ("left", "right"), ("red", "green", "blue")
PINS = [f"touch the pin on the {place} of the {hue} cube" for place in PLACES for hue in HUES]


def test_what_no_demonstration_has_said_can_be_said_of_known_words() -> None:
    """Of six combinations one is never told; put on the list at run time, it is said where it is meant."""
    torch.manual_seed(0)
    told = Subgoals(PINS[:-1], width=6, dim=4)
    meant = torch.eye(6)[: len(PLACES)].repeat_interleave(3, 0) + torch.eye(6)[3:].repeat(2, 1)
    optimizer = torch.optim.Adam([told.words], lr=0.1)
    for _ in range(100):
        logits = told.say(meant[:-1, None])
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    more = Subgoals(PINS, width=6, dim=4)
    more.load_state_dict(told.state_dict())
    assert more.say(meant[:, None]).argmax(1).tolist() == list(range(6))


def test_a_checkpoint_takes_another_list_of_sentences(make_policy, make_told_batch, tmp_path) -> None:
    policy = make_policy(**SPEAKS)
    give_words(policy.imagination.subgoals, torch.eye(3)[1][:, None].expand(3, 32))
    policy.imagination.subgoals.norm.bias.data += 1.0
    policy.save_pretrained(tmp_path)
    config = PreTrainedConfig.from_pretrained(tmp_path, cli_overrides=['--subgoals=["lift it", "grasp it"]'])
    loaded = LatentVLAPolicy.from_pretrained(tmp_path, config=config)
    assert loaded.imagine_subgoals(observation(make_told_batch())) == [["grasp it"] * 2] * 4


def test_a_policy_without_sub_goals_cannot_say_any(make_policy, make_told_batch) -> None:
    policy = make_policy(world_model=True, imagination="latent")
    with pytest.raises(ValueError, match="expected a policy that was trained with true"):
        policy.imagine_subgoals(observation(make_told_batch()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"imagination": "none", "mode": "reactive"},
            "imagine_subgoals=true: expected --policy.imagination=",
        ),
        ({"block_order": "sorted"}, "expected one of interleaved, grouped, shuffled"),
        ({"block_order": "grouped", "imagine_subgoals": False}, "expected --policy.imagine_subgoals=true"),
        ({"block_order": "shuffled", "imagined_steps": 1}, "expected --policy.imagined_steps of 2 or more"),
        ({"subgoals": []}, "expected --policy.subgoals as well"),
    ],
)
def test_sub_goals_that_cannot_be_imagined_are_refused(make_policy, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_policy(**SPEAKS | fields)
