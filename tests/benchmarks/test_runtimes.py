"""The same policy decides the same in every runtime, and all are timed in turn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.benchmarks import runtimes
from embodied.benchmarks.infer import THINKING, observation, untrained
from embodied.config import BenchConfig

OF_TORCH = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # its compiler's own


def test_every_mode_is_timed_in_every_runtime_that_can_run_it(monkeypatch) -> None:
    """Compiling takes minutes: here the runtimes are stand-ins, and what is timed is their order."""
    monkeypatch.setattr(runtimes, "bench_device", lambda: "cpu")
    monkeypatch.setattr(runtimes, "_compiled", lambda policy, batch: lambda: None)
    monkeypatch.setattr(runtimes, "_onnx", lambda policy, length, folder: lambda: None)
    result = runtimes.bench_runtimes(BenchConfig(repeats=1, steps=2, image_size=32))
    assert list(result["rows"]) == [
        "reactive, eager",
        "reactive, compiled",
        "reactive, ONNX",
        "imagine, eager",
        "imagine, compiled",
        "imagine, ONNX",
        "plan, eager",
        "plan, compiled",
    ]
    for mode in ("reactive", "imagine", "plan"):
        assert result["rows"][f"{mode}, eager"]["times_eager"] == 1
        assert result["rows"][f"{mode}, compiled"]["times_eager"] < 1


@pytest.mark.slow
def test_onnx_decides_as_eager_does(tmp_path: Path) -> None:
    """Both see what `example` gives: black pictures, a state of zeros, and an instruction of as many ones."""
    policy = untrained(32, "cpu", mode="reactive", **THINKING)
    batch = observation(32, "cpu")
    for key, value in batch.items():
        batch[key] = torch.ones_like(value) if "language" in key else torch.zeros_like(value)
    found = runtimes.on_cpu(policy, batch, tmp_path)
    actions = dict(zip(("actions", "normalized"), found["ONNX"](), strict=True))["normalized"]
    np.testing.assert_allclose(actions, found["eager"]().numpy(), atol=1e-4)


def test_a_decision_is_one_graph_that_decides_as_eager_does() -> None:
    """What is compiled is captured as a whole; run as it is, which spares the compiler's minute."""
    policy, batch = untrained(32, "cpu", mode="reactive", action_head="regression"), observation(32, "cpu")
    captured = runtimes._compiled(policy, batch, backend="eager")()
    torch.testing.assert_close(captured, runtimes._eager(policy, batch)(), atol=1e-4, rtol=0)


@OF_TORCH
@pytest.mark.gpu
def test_cuda_graphs_decide_as_eager_does() -> None:
    policy, batch = untrained(96, "cuda", mode="reactive"), observation(96, "cuda")
    found = runtimes.on_cuda(policy, batch)
    for name in ("compiled", "CUDA graphs"):
        for _ in range(3):
            torch.testing.assert_close(found[name](), found["eager"](), atol=1e-3, rtol=0)
