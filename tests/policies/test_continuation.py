"""Chunks that continue the one before: both ways with answers known by hand."""

import pytest
import torch

from policies.latent_vla.action_head import ActionTransformer, FlowMatchingHead
from policies.latent_vla.continuation import BETA, CONTINUATIONS, Prefix, left_over


class Constant(torch.nn.Module):
    """A network whose velocity is 2."""

    def remember(self, states):
        return []

    def forward(self, chunk, time, memory):
        return torch.full_like(chunk, 2.0)


class Mirror(Constant):
    """A network whose velocity at a step is the action at the step as far from the chunk's other end."""

    def forward(self, chunk, time, memory):
        return chunk.flip(2)


def sample(network, way, actions, weights, *, steps=1, horizon=3):
    head = FlowMatchingHead(network, samples=1, steps=steps, continuation=way)
    prefix = Prefix(torch.tensor(actions)[None, :, None], torch.tensor(weights)[None])
    return head.sample((), torch.zeros(1, horizon, 1), prefix)[0, :, 0].tolist()


def test_guidance_pulls_in_proportion_to_weight_and_error_at_most_by_beta():
    """One step, from 0 to 2; 9 is 7 away, half of that is bound: 2 + 5 * 3.5."""
    assert sample(Constant(), "guidance", [9.0], [0.5]) == pytest.approx([2 + BETA * 3.5, 2, 2])


def test_the_strength_of_guidance_falls_with_time():
    """Two steps: at 0 the pull is beta, at 1/2 it is (1/4 + 1/4) / (1/4) = 2, each for half of the time.

    1 is left where 2 would be decoded: the error is -1 * 0.1, then half of 5 * that has been made up for.
    """
    first = 1 + BETA * -0.1 / 2
    end = first + 1
    assert sample(Constant(), "guidance", [1.0], [0.1], steps=2)[0] == pytest.approx(
        end + 2 * (1 - end) * 0.1 / 2
    )


def test_guidance_turns_actions_that_are_not_bound_as_the_network_couples_them():
    """A1 = A + its mirror image: an error at the first step is one at the last as well."""
    assert sample(Mirror(), "guidance", [1.0], [0.5], horizon=2) == pytest.approx([2.5, 2.5])


def test_inpainting_leaves_actions_that_are_not_bound_to_the_network():
    """After the step [0, 0]; then the first is drawn half way to 1."""
    assert sample(Mirror(), "inpainting", [1.0], [0.5], horizon=2) == pytest.approx([0.5, 0.0])


def make_head(way):
    torch.manual_seed(0)
    network = ActionTransformer(
        horizon=6, action_dim=2, tokens=3, dim=16, depth=2, heads=2, context_dim=8, context_layers=3
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return FlowMatchingHead(network, samples=1, steps=4, continuation=way)


@pytest.fixture
def scene():
    torch.manual_seed(1)
    return tuple(torch.randn(2, 5, 8) for _ in range(3)), torch.randn(2, 6, 2)


@pytest.mark.parametrize("way", CONTINUATIONS)
def test_what_is_committed_to_is_kept_to_the_bit(way, scene):
    states, noise = scene
    left = torch.randn(2, 4, 2)
    chunk = make_head(way).sample(states, noise, left_over(left, 2))
    assert torch.equal(chunk[:, :2], left[:, :2])
    assert not torch.isclose(chunk[:, 2:4], left[:, 2:]).any()


@pytest.mark.parametrize("way", CONTINUATIONS)
def test_without_a_prefix_nothing_but_euler_steps_is_done(way, scene):
    states, noise = scene
    head = make_head(way)
    memory, chunk = head.network.remember(states), noise[:, None]
    for time in (0.0, 0.25, 0.5, 0.75):
        chunk = chunk + head.network(chunk, torch.full((2, 1), time), memory) / 4
    assert torch.equal(head.sample(states, noise), chunk[:, 0])


@pytest.mark.parametrize("way", CONTINUATIONS)
def test_a_prefix_of_no_weight_changes_nothing(way, scene):
    states, noise = scene
    head, prefix = make_head(way), Prefix(torch.randn(2, 6, 2), torch.zeros(2, 6))
    assert torch.equal(head.sample(states, noise, prefix), head.sample(states, noise))


def test_guidance_comes_nearer_to_what_is_left_than_no_guidance(scene):
    states, noise = scene
    head, left = make_head("guidance"), torch.randn(2, 6, 2)
    free = head.sample(states, noise)
    guided = head.sample(states, noise, Prefix(left, torch.full((2, 6), 0.3)))
    assert (guided - left).square().mean() < 0.9 * (free - left).square().mean()


def test_guidance_works_without_gradients_around_it_and_leaves_none_behind(scene):
    states, noise = scene
    head, prefix = make_head("guidance"), left_over(torch.randn(2, 6, 2), 1)
    chunk = head.sample(states, noise, prefix)
    assert not chunk.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = head.sample(tuple(part.clone() for part in states), noise.clone(), prefix)
        assert torch.equal(again, chunk)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_an_unknown_way_names_the_known_ones(make_config):
    with pytest.raises(ValueError, match="continuation=both: expected one of guidance, inpainting"):
        make_config(continuation="both")
