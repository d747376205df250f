"""`embodied bench runtimes`: time per chunk of the same policy, eager, compiled, as ONNX and as CUDA graphs.

Eager is what `embodied evaluate` and `embodied serve` run, with an instruction that was read once. It is read
each time where the policy is compiled by torch (`torch.compile`), recorded as CUDA graphs (the same with
`mode="reduce-overhead"`), or the ONNX graph of `embodied export`, whose time holds the checkpoint's scaling
and normalisation as well. Batch 1; all decide in turn, one decision each.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_TOKENS, OBS_STATE
from torch import Tensor

from embodied.benchmarks.infer import (
    ACTION_SIZE,
    CAMERAS,
    STATE_SIZE,
    THINKING,
    UNIT,
    bench_device,
    latency_rows,
    observation,
    time_in_turn,
    untrained,
)
from embodied.config import BenchConfig
from embodied.export.export import MODES as EXPORTED
from embodied.export.graph import DecisionGraph, example
from embodied.export.tracing import write_graph
from policies.latent_vla.configuration_latent_vla import MODES
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.processor_latent_vla import make_latent_vla_pre_post_processors

STATISTICS = {
    key: {"mean": torch.zeros(size), "std": torch.ones(size)}
    for key, size in ((OBS_STATE, STATE_SIZE), (ACTION, ACTION_SIZE))
}
Batch = dict[str, Tensor]
Decider = Callable[[], Any]


def bench_runtimes(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` decisions of every mode in every runtime, and print a table.

    Returns `rows` (per mode and runtime `p50` and `p95` in milliseconds, and `times_eager`, its median over
    that of the same mode run eagerly), `unit`, `threads` and what was measured on. There is no peer.
    """
    device = bench_device()
    batch = observation(config.image_size, device)
    deciders: dict[str, Decider] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            policy = untrained(config.image_size, device, mode=mode, **THINKING)
            runtimes = on_cuda(policy, batch) if device == "cuda" else on_cpu(policy, batch, Path(folder))
            deciders |= {f"{mode}, {runtime}": decide for runtime, decide in runtimes.items()}
    seconds = time_in_turn(deciders, config.repeats * config.steps, device, "bench runtimes")
    return {
        "benchmark": "runtimes",
        "unit": UNIT,
        "rows": latency_rows(seconds, "times_eager", lambda name: f"{name.split(', ')[0]}, eager"),
        "threads": torch.get_num_threads(),
        "picture": [config.image_size, config.image_size],
        "cameras": len(CAMERAS),
        "device": device,
    }


def on_cpu(policy: LatentVLAPolicy, batch: Batch, folder: Path) -> dict[str, Decider]:
    """Runtimes of a processor; the graph, where the policy's mode can be exported, is written to a folder."""
    runtimes = {"eager": _eager(policy, batch), "compiled": _compiled(policy, batch)}
    if policy.config.mode in EXPORTED:
        runtimes["ONNX"] = _onnx(policy, batch[OBS_LANGUAGE_TOKENS].shape[1], folder)
    return runtimes


def on_cuda(policy: LatentVLAPolicy, batch: Batch) -> dict[str, Decider]:
    """Runtimes of a GPU."""
    return {
        "eager": _eager(policy, batch),
        "compiled": _compiled(policy, batch),
        "CUDA graphs": _compiled(policy, batch, mode="reduce-overhead"),
    }


def _decide(policy: LatentVLAPolicy, batch: Batch, noise: Tensor) -> Tensor:
    policy.recollection = None
    return policy.continue_chunk(batch, noise)


def _noise(policy: LatentVLAPolicy, batch: Batch) -> Tensor:
    return torch.zeros(1, *policy.config.noise_shape, device=next(iter(batch.values())).device)


def _eager(policy: LatentVLAPolicy, batch: Batch) -> Decider:
    return torch.inference_mode()(partial(_decide, policy, batch, _noise(policy, batch)))


def _compiled(policy: LatentVLAPolicy, batch: Batch, **settings: Any) -> Decider:
    _eager(policy, batch)()  # transformers installs hooks at the first call, which cannot be compiled
    decide = torch.compile(partial(_decide, policy), fullgraph=True, **settings)
    return torch.no_grad()(partial(decide, batch, _noise(policy, batch)))


def _onnx(policy: LatentVLAPolicy, length: int, folder: Path) -> Decider:
    path = folder / f"{policy.config.mode}.onnx"
    cameras = [key.rsplit(".", 1)[-1] for key in CAMERAS]
    processors = make_latent_vla_pre_post_processors(policy.config, STATISTICS)
    write_graph(DecisionGraph(policy, *processors), cameras, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = example(policy, cameras, batch=1, length=length)
    return partial(session.run, None, {item.name: inputs[item.name].numpy() for item in session.get_inputs()})
