"""Low-rank adaptation of linear layers."""

import pytest
import torch
from torch import nn

from policies.latent_vla.lora import LoRALinear, add_lora, merge_lora


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.other = nn.Linear(6, 4), nn.Linear(4, 5, bias=False)

    def forward(self, features):
        return self.other(self.q_proj(features).tanh())


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Block()


def learn(block, steps=3):
    optimizer = torch.optim.SGD([p for p in block.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        block(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()


def test_nothing_changes_at_first(block):
    features = torch.randn(3, 6)
    before = block(features)
    add_lora(block, rank=2, alpha=4)
    assert torch.equal(block(features), before)


def test_only_the_adapters_train(block):
    add_lora(block, rank=2, alpha=4)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    learn(block)
    changed = {name for name, value in block.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"q_proj.down.weight", "q_proj.up.weight"}


def test_only_named_layers_are_adapted(block):
    add_lora(block, rank=2, alpha=4, projections=["other"])
    assert isinstance(block.other, LoRALinear)
    assert isinstance(block.q_proj, nn.Linear)


def test_the_update_is_alpha_over_rank_times_up_times_down():
    base = nn.Linear(2, 2, bias=False)
    base.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    layer = LoRALinear(base, rank=1, alpha=2)
    layer.down.weight.data, layer.up.weight.data = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0], [2.0]])
    assert layer(torch.tensor([1.0, 1.0])).tolist() == [5.0, 11.0]
    assert layer.merged().weight.tolist() == [[3.0, 2.0], [7.0, 4.0]]


def test_merged_layers_do_the_same_without_adapters(block):
    add_lora(block, rank=2, alpha=4)
    learn(block)
    features = torch.randn(3, 6)
    before, adapted = block(features), block.q_proj.base.weight.clone()
    merge_lora(block)
    assert type(block.q_proj) is nn.Linear
    assert not torch.allclose(block.q_proj.weight, adapted, atol=1e-3)
    assert torch.allclose(block(features), before, atol=1e-6)


def test_names_that_no_layer_bears_are_refused(block):
    with pytest.raises(ValueError, match="Block has no linear layer of these names: v_proj"):
        add_lora(block, rank=2, alpha=4, projections=["v_proj"])
