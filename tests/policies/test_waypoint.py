"""Waypoints: what is predicted of the way that is left, learned from whom, and read by the action head."""

import pytest
import torch
from torch.nn import functional as F

from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.subgoals import SUBGOAL
from policies.latent_vla.trajectories import STEPS_TO_SUCCESS
from policies.latent_vla.waypoint import WAYPOINT, deviation_of

AHEAD = {"waypoint_loss_weight": 1.0}
GROUNDED = {
    **AHEAD,
    "imagination": "grounded",
    "imagine_subgoals": True,
    "subgoals": ["touch the red pad", "wait"],
    "imagined_steps": 1,
    "mode": "imagine",
}


@pytest.fixture
def make_led_batch(make_batch):
    """A training batch of four rows that tells where they went."""

    def make(steps=None):
        batch = make_batch(("open the drawer", "reach") * 2, steps=steps)
        return batch | {WAYPOINT: torch.randn(4, 4, generator=torch.Generator().manual_seed(3))}

    return make


def waypoints_of(policy, batch):
    latents, state = policy._observe(batch)
    if policy.config.imagination != "grounded":
        return policy.embed_state.waypoint(latents, state)
    seen = policy.imagine(batch)[:, :1, : latents.shape[2]]
    return policy.imagination.grounding.waypoint(seen, state)


def test_without_it_the_network_is_what_it_was(make_policy):
    """All else keeps its name, so that checkpoints from before still load."""
    plain, ahead = make_policy().state_dict(), make_policy(**AHEAD).state_dict()
    added = set(ahead) - set(plain)
    assert set(plain) <= set(ahead)
    assert all(name.startswith("embed_state.waypoint.") for name in added)


def test_the_way_is_learned_in_deviations_of_the_state(make_config, make_led_batch):
    statistics = {"observation.state": {"std": [1.0, 2.0, 4.0, 0.0]}}
    torch.manual_seed(0)
    policy, batch = LatentVLAPolicy(make_config(**AHEAD), dataset_stats=statistics), make_led_batch()
    scale = torch.tensor([1.0, 2.0, 4.0, 1e-3])
    torch.testing.assert_close(policy.state_dict()["embed_state.waypoint.scale"], scale)
    _, metrics = policy(batch)
    error = F.smooth_l1_loss(waypoints_of(policy, batch)[:, 0], batch[WAYPOINT] / scale)
    torch.testing.assert_close(metrics["waypoint_loss"], error)
    assert deviation_of(None, "observation.state", 2).tolist() == [1, 1]


def test_failed_episodes_and_padding_teach_no_waypoint(make_policy, make_led_batch):
    policy, batch = make_policy(**AHEAD), make_led_batch()
    batch |= {STEPS_TO_SUCCESS: torch.tensor([30.0, torch.inf, 30.0, 30.0])}
    batch["action_is_pad"][2] = True
    changed = batch | {WAYPOINT: batch[WAYPOINT].clone()}
    changed[WAYPOINT][1:3] += 5
    losses = [policy(each)[1]["waypoint_loss"].item() for each in (batch, changed)]
    assert losses[0] == losses[1]
    changed[WAYPOINT][0] += 5
    assert policy(changed)[1]["waypoint_loss"].item() != losses[0]


@pytest.mark.parametrize("history", [None, 2])
@pytest.mark.parametrize("kind", [AHEAD, GROUNDED], ids=["state", "grounded"])
def test_after_one_batch_is_learned_the_way_is_known_at_run_time(kind, history, make_policy, make_led_batch):
    policy = make_policy(**kind, n_obs_steps=history or 1)
    batch = make_led_batch(history) | {SUBGOAL: torch.tensor([[0], [1], [0], [1]])}
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(150):
        loss, metrics = policy(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["waypoint_loss"] < 0.05
    timed = ("observation.images", "observation.state")
    present = {
        key: value[:, -1] if history and key.startswith(timed) else value for key, value in batch.items()
    }
    policy.eval()
    error = waypoints_of(policy, present)[:, -1] - batch[WAYPOINT]
    taught = slice(0, None, 2) if kind is GROUNDED else slice(None)  # the others acted at once
    assert error[taught].abs().mean() < 0.2


@pytest.mark.parametrize("kind", [AHEAD, GROUNDED], ids=["state", "grounded"])
def test_the_action_depends_on_the_waypoint(kind, make_policy, make_batch):
    policy, batch = make_policy(**kind), make_batch()
    noise = torch.zeros(2, *policy.config.noise_shape)
    before = policy.predict_action_chunk(batch, noise=noise)
    part = policy.imagination.grounding if kind is GROUNDED else policy.embed_state
    part.waypoint.out.bias.data += 3
    policy.reset()
    assert not torch.allclose(policy.predict_action_chunk(batch, noise=noise), before)


def test_a_batch_that_tells_no_waypoints_trains_without_their_loss(make_policy, make_batch):
    loss, metrics = make_policy(**AHEAD)(make_batch())
    loss.backward()
    assert "waypoint_loss" not in metrics


def test_a_grounded_plan_has_the_waypoint_where_it_looks(make_policy, make_batch):
    """And not in the state's token, whose latents know nothing of what was said or remembered."""
    policy, batch = make_policy(**GROUNDED), make_batch()
    assert policy.embed_state.waypoint is None
    assert policy.imagine(batch).shape[2] == policy.config.num_latents + 2


def test_a_weight_below_0_is_refused(make_config):
    with pytest.raises(ValueError, match=r"waypoint_loss_weight=-1\.0: expected at least 0"):
        make_config(waypoint_loss_weight=-1.0)
