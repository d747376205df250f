"""Action heads: losses with answers known by hand, integration, committed prefixes."""

import pytest
import torch

from policies.latent_vla.action_head import (
    ActionTransformer,
    FlowMatchingHead,
    Prefix,
    flow_matching_loss,
    make_action_head,
    masked_mean,
)
from policies.real_time_chunking import prefix_weights


class KnownVelocity(torch.nn.Module):
    """A network whose velocity is constant."""

    def __init__(self, velocity: float):
        super().__init__()
        self.velocity = velocity

    def remember(self, states):
        return []

    def forward(self, chunk, time, memory):
        return torch.full_like(chunk, self.velocity)


def make_network(**overrides):
    sizes = {"horizon": 6, "action_dim": 2, "tokens": 3, "dim": 16, "depth": 2, "heads": 2}
    return ActionTransformer(**{**sizes, **overrides}, context_dim=8, context_layers=3)


def test_flow_matching_loss_ignores_padding():
    noise, actions = torch.zeros(1, 2, 1), torch.ones(1, 2, 1)
    velocity = torch.tensor([[[3.0], [100.0]]])
    is_pad = torch.tensor([[False, True]])
    assert flow_matching_loss(velocity, noise, actions, is_pad).item() == pytest.approx(4.0)


def test_a_window_that_is_all_padding_costs_nothing():
    assert masked_mean(torch.ones(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)).item() == 0.0


def test_euler_integration_of_a_constant_velocity_is_exact():
    head = FlowMatchingHead(KnownVelocity(2.0), samples=1, steps=4)
    assert torch.allclose(head.sample((), torch.zeros(1, 3, 2)), torch.full((1, 3, 2), 2.0))


def test_a_committed_prefix_is_kept_and_the_rest_is_decoded():
    head = FlowMatchingHead(KnownVelocity(2.0), samples=1, steps=4)
    prefix = Prefix(torch.full((1, 1, 2), 9.0), torch.ones(1, 1))
    chunk = head.sample((), torch.zeros(1, 3, 2), prefix)
    assert chunk[0, :, 0].tolist() == pytest.approx([9.0, 2.0, 2.0])


def test_a_prefix_of_no_weight_changes_nothing_and_one_of_half_meets_the_chunk_half_way():
    """At the end: half of the way from the decoded action to 8; before, the velocity knows no prefix."""
    head = FlowMatchingHead(KnownVelocity(2.0), samples=1, steps=1)
    prefix = Prefix(torch.full((1, 2, 2), 8.0), torch.tensor([[0.0, 0.5]]))
    chunk = head.sample((), torch.zeros(1, 3, 2), prefix)
    assert chunk[0, :, 0].tolist() == pytest.approx([2.0, 5.0, 2.0])


def test_committed_actions_weigh_one_and_the_others_fade():
    """Thirds left at 2/3 and 1/3: c (e^c - 1) / (e - 1)."""
    assert prefix_weights(4, 2) == pytest.approx([1, 1, 0.36772, 0.07675], abs=1e-4)
    assert prefix_weights(2, 2) == [1, 1]


def test_flow_samples_of_one_observation_do_not_see_each_other():
    network = make_network()
    torch.nn.init.normal_(network.time[-1].weight, std=0.1)
    memory = network.remember(tuple(torch.randn(2, 5, 8) for _ in range(3)))
    chunk, time = torch.randn(2, 4, 6, 2), torch.rand(2, 4)
    together = network(chunk, time, memory)
    alone = network(chunk[:, 2:3], time[:, 2:3], memory)
    assert torch.allclose(together[:, 2:3], alone, atol=1e-5)


def test_the_last_block_reads_the_last_backbone_layer():
    assert make_network(depth=2).reads == [1, 2]
    assert make_network(depth=3).reads[-1] == 2


@pytest.mark.parametrize("kind", ["flow", "regression"])
def test_one_batch_overfits(kind):
    torch.manual_seed(0)
    head = make_action_head(kind, make_network(dim=32), samples=8, steps=8)
    states = tuple(torch.randn(4, 5, 8) for _ in range(3))
    actions, is_pad = torch.randn(4, 6, 2), torch.zeros(4, 6, dtype=torch.bool)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        head.loss(states, actions, is_pad).backward()
        optimizer.step()
    with torch.no_grad():
        error = (head.sample(states, torch.randn(4, 6, 2)) - actions).abs().mean()
    assert error < 0.15


def test_an_unknown_head_names_the_valid_ones():
    with pytest.raises(ValueError, match="action_head=gaussian: expected one of flow, regression"):
        make_action_head("gaussian", make_network(), samples=1, steps=1)
