"""The training bench: what is compared, and how its numbers follow from the measured seconds."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from embodied.benchmarks import infer, train
from embodied.benchmarks.infer import PEER, untrained
from embodied.benchmarks.train import (
    MAKERS,
    MATCHED_PEER,
    OURS,
    SMALL,
    Trainee,
    bench_train,
    flops_per_sample,
    train_steps,
    training_batch,
)
from embodied.config import BenchConfig

TINY: dict[str, Any] = {"dim": 16, "depth": 1, "heads": 2, "head_dim": 16, "head_depth": 1, "head_heads": 2}


def parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in MAKERS[name](96, "cpu").parameters())


def test_act_has_its_usual_size_and_the_matched_pair_differs_by_less_than_a_tenth() -> None:
    assert 50e6 < parameters(PEER) < 53e6
    assert 3e6 < parameters(OURS) < 5e6
    assert abs(parameters(MATCHED_PEER) / parameters(SMALL) - 1) < 0.1


def test_flops_of_a_sample_are_those_of_its_products_whatever_the_batch() -> None:
    """A layer from 3 to 5 numbers: 2 * 15 forward, as many for its weights; the input needs no gradient."""

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 5)

        def forward(self, batch):
            return self.layer(batch["action"]).sum(), {}

    for size in (1, 4):
        layer = Layer()
        assert flops_per_sample(layer, {"action": torch.ones(size, 3)}) == 2 * 30
        assert layer.layer.weight.grad is None


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_changes_the_weights_and_a_loss_that_is_not_finite_is_refused(precision: str) -> None:
    batch = training_batch(BenchConfig(image_size=32, batch_size=2), "cpu")
    policy = untrained(32, "cpu", **TINY).train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    trainee = Trainee(policy=policy, optimizer=optimizer, batch=batch, flops=0.0, peak_bytes={})
    before = [parameter.clone() for parameter in policy.parameters()]
    train_steps(trainee, precision, 1)
    assert any(not torch.equal(*pair) for pair in zip(before, policy.parameters(), strict=True))
    batch["action"].fill_(float("nan"))
    with pytest.raises(RuntimeError, match="its speed means nothing"):
        train_steps(trainee, precision, 1)


def test_rates_follow_from_the_seconds_and_each_side_counts_in_its_better_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 steps of 2 samples in 0.5 s are 8 per second; bf16 helps us and harms the peer."""
    seconds = {
        "float32": {OURS: 0.5, PEER: 2.0, SMALL: 1.0, MATCHED_PEER: 1.0, train.MATMUL: 0.01},
        "bf16": {OURS: 0.25, PEER: 4.0, SMALL: 2.0, MATCHED_PEER: 0.5, train.MATMUL: 0.005},
    }
    order = [each for of in seconds.values() for each in of.values()]
    timed: list[float] = []

    def time(decide, device):
        decide()
        timed.append(order[len(timed) % len(order)])
        return timed[-1]

    makers = {name: lambda size, device: untrained(size, device, **TINY) for name in MAKERS}
    monkeypatch.setattr(infer, "_time", time)
    monkeypatch.setattr(train, "MAKERS", makers)
    monkeypatch.setattr(train, "MATMUL_SIZE", {"cpu": 100})
    monkeypatch.setattr(train, "bench_device", lambda: "cpu")
    monkeypatch.setattr(train, "bf16_unit", lambda device: "AMX")
    monkeypatch.setattr(train, "_autocast", lambda device, precision: nullcontext())  # emulated, it is slow
    result = bench_train(BenchConfig(repeats=1, steps=2, batch_size=2, image_size=32))
    assert len(timed) == 10
    assert result["pairs"] == [
        {
            "float32": {OURS: 8, PEER: 2, SMALL: 4, MATCHED_PEER: 4},
            "bf16": {OURS: 16, PEER: 1, SMALL: 2, MATCHED_PEER: 8},
        }
    ]
    assert (result["ours"], result["peer"], result["ratio"]) == (16, 2, 8)
    assert (result["matched"]["ours"], result["matched"]["peer"], result["matched"]["ratio"]) == (4, 8, 0.5)
    assert result["matmul_flops"] == pytest.approx({"float32": 2e8, "bf16": 4e8})
    row = result["rows"][OURS]
    assert row["float32"]["utilisation"] == pytest.approx(8 * row["flops_per_sample"] / 2e8)
    assert row["bf16"]["utilisation"] == pytest.approx(16 * row["flops_per_sample"] / 4e8)
    assert "peak_memory_mb" not in row["bf16"]
    assert result["unit"].startswith("training samples per second")
