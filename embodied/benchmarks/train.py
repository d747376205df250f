"""`embodied bench train`: training samples per second, ours against LeRobot's ACT.

A step is forward, backward, clipping and AdamW, on one batch that stays the same: no loader, no processors.
All policies train for `steps` steps in turn. Preset `tiny` is compared with ACT as LeRobot configures it. An
ACT as small as `tiny` cannot be had, as a whole ResNet-18 (11M) is the least that its image tower can be:
parameter for parameter, preset `small` is compared with an ACT of a narrower transformer.

Model FLOPs are those of forward and backward (two for a multiplication and an addition), as torch counts
them; utilisation is their rate over that of a large matrix product in the same numbers, timed in the same
turns. On CUDA both may use TF32 for float32, as LeRobot's trainer allows. On two cores the default sizes take
more than an hour, `--steps=2 --batch_size=16` some minutes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from embodied.benchmarks.infer import (
    ACTION_SIZE,
    CAMERAS,
    PEER,
    bench_device,
    observation,
    time_in_turn,
    untrained,
    untrained_act,
)
from embodied.config import BenchConfig, OptimizerConfig
from embodied.training.optim import make_optimizer
from embodied.training.policies import parameter_groups_of
from embodied.training.precision import bf16_unit

CHUNK = {"chunk_size": 12, "n_action_steps": 12}
MATCHED: dict[str, Any] = {"dim_model": 192, "n_heads": 6, "dim_feedforward": 768}
"""Of an ACT with as many parameters as preset `small`."""

SMALL, MATCHED_PEER = "small", f"{PEER}, as large as small"
OURS = "tiny"
MAKERS: dict[str, Callable[[int, str], PreTrainedPolicy]] = {
    OURS: lambda size, device: untrained(size, device, preset="tiny", **CHUNK),
    PEER: lambda size, device: untrained_act(size, device, **CHUNK),
    SMALL: lambda size, device: untrained(size, device, preset="small", **CHUNK),
    MATCHED_PEER: lambda size, device: untrained_act(size, device, **CHUNK, **MATCHED),
}
OPTIMIZER = OptimizerConfig(lr=1e-5)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
MATMUL = "matrix product"
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}
WARM_UP_STEPS = 2
UNIT = "training samples per second (forward, backward, AdamW)"

Rates = dict[str, dict[str, list[float]]]
"""By precision and name, one for each turn."""


@dataclass(frozen=True, kw_only=True)
class Trainee:
    """A policy in training.

    flops: of forward and backward of a sample; peak_bytes: by precision, where it is known.
    """

    policy: PreTrainedPolicy
    optimizer: torch.optim.Optimizer
    batch: dict[str, Tensor]
    flops: float
    peak_bytes: dict[str, int]

    @property
    def parameters(self) -> int:
        """How many numbers the policy learns."""
        return sum(parameter.numel() for parameter in self.policy.parameters())


def bench_train(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` training steps of every policy, and print a table.

    Returns `rows` (per policy `parameters`, `flops_per_sample` and by precision `samples_per_s`,
    `utilisation` and, on CUDA, `peak_memory_mb`, weights and moments included), `ours` and `peer` (medians of
    `tiny` and ACT, each in its better precision), `ratio` (ours over peer), `matched` (the same of `small`
    and the ACT of its size), `unit`, `pairs` (every measurement), `matmul_flops` (the most per second by
    precision) and what was measured on. RuntimeError if a policy's loss is not finite.
    """
    device = bench_device()
    precisions = available_precisions(device)
    batch = training_batch(config, device)
    with _fast_float32():
        trainees = {
            name: _trainee(make, config.image_size, batch, precisions) for name, make in MAKERS.items()
        }
        rates = _rates(trainees, config, device, precisions)
    peaks = {precision: max(of[MATMUL]) for precision, of in rates.items()}
    rows = {name: _row(name, trainee, rates, peaks) for name, trainee in trainees.items()}
    print(format_rows(rows))
    pairs = [
        {precision: {name: of[name][turn] for name in MAKERS} for precision, of in rates.items()}
        for turn in range(config.repeats)
    ]
    return {
        "benchmark": "train",
        "unit": UNIT,
        "rows": rows,
        **_compared(rows, OURS, PEER),
        "matched": {"policies": [SMALL, MATCHED_PEER], **_compared(rows, SMALL, MATCHED_PEER)},
        "pairs": pairs,
        "matmul_flops": peaks,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "picture": [config.image_size, config.image_size],
        "cameras": len(CAMERAS),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def available_precisions(device: str) -> list[str]:
    """Float32, and bf16 where the device computes in it itself."""
    return ["float32", *(["bf16"] if bf16_unit(device) else [])]


def training_batch(config: BenchConfig, device: str) -> dict[str, Tensor]:
    """Random looks and chunks without padding, one instruction."""
    size, generator = (config.batch_size, CHUNK["chunk_size"]), torch.Generator().manual_seed(1)
    return {
        **observation(config.image_size, device, config.batch_size),
        ACTION: torch.randn(*size, ACTION_SIZE, generator=generator).to(device),
        "action_is_pad": torch.zeros(size, dtype=torch.bool, device=device),
    }


@contextmanager
def _fast_float32() -> Iterator[None]:
    """Matrix products may use TF32, as convolutions may by default."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


# --- training -------------------------------------------------------------------------------------


def _trainee(
    make: Callable[[int, str], PreTrainedPolicy], size: int, batch: dict[str, Tensor], precisions: list[str]
) -> Trainee:
    """A policy that is warmed up in every precision, its FLOPs counted and its memory measured."""
    device = batch[ACTION].device
    held = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    torch.manual_seed(0)
    policy = make(size, device.type).train()
    optimizer = make_optimizer(policy, parameter_groups_of(policy), OPTIMIZER)
    trainee = Trainee(
        policy=policy,
        optimizer=optimizer,
        batch=batch,
        flops=flops_per_sample(policy, batch),
        peak_bytes={},
    )
    for precision in precisions:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        train_steps(trainee, precision, WARM_UP_STEPS)
        if device.type == "cuda":
            trainee.peak_bytes[precision] = torch.cuda.max_memory_allocated() - held
    return trainee


def train_steps(trainee: Trainee, precision: str, steps: int) -> None:
    """Train for so many steps; RuntimeError if the last loss is not finite."""
    parameters = list(trainee.policy.parameters())
    loss = torch.zeros(())
    for _ in range(steps):
        with _autocast(trainee.batch[ACTION].device.type, precision):
            loss, _ = trainee.policy(trainee.batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, OPTIMIZER.grad_clip)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad()
    if not loss.isfinite():
        raise RuntimeError(f"{type(trainee.policy).__name__}: loss {loss}: its speed means nothing")


def _autocast(device: str, precision: str) -> Any:
    return nullcontext() if precision == "float32" else torch.autocast(device, dtype=DTYPES[precision])


def flops_per_sample(policy: torch.nn.Module, batch: dict[str, Tensor]) -> float:
    """Of forward and backward; attention is counted as the products that it consists of."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        policy(batch)[0].backward()
    policy.zero_grad()
    return counter.get_total_flops() / len(batch[ACTION])


# --- measuring ------------------------------------------------------------------------------------


def _rates(trainees: dict[str, Trainee], config: BenchConfig, device: str, precisions: list[str]) -> Rates:
    """Samples per second of every policy, FLOPs per second of the matrix product."""
    amounts = {name: config.steps * config.batch_size for name in trainees}
    amounts[MATMUL] = 2 * MATMUL_SIZE[device] ** 3
    work: dict[tuple[str, str], Callable[[], Any]] = {}
    for precision in precisions:
        for name, trainee in trainees.items():
            work[precision, name] = partial(train_steps, trainee, precision, config.steps)
        matrix = torch.randn(MATMUL_SIZE[device], MATMUL_SIZE[device], device=device, dtype=DTYPES[precision])
        work[precision, MATMUL] = partial(torch.mm, matrix, matrix)
        work[precision, MATMUL]()
    labels = {f"{name}, {precision}": (precision, name) for precision, name in work}
    seconds = time_in_turn(
        {label: work[key] for label, key in labels.items()},
        config.repeats,
        device,
        "bench train",
        warm_up=0,
        unit="turn",
    )
    rates: Rates = {precision: {} for precision in precisions}
    for label, (precision, name) in labels.items():
        rates[precision][name] = [amounts[name] / each for each in seconds[label]]
    return rates


def _row(name: str, trainee: Trainee, rates: Rates, peaks: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"parameters": trainee.parameters, "flops_per_sample": trainee.flops}
    for precision, of in rates.items():
        speed = median(of[name])
        row[precision] = {"samples_per_s": speed, "utilisation": speed * trainee.flops / peaks[precision]}
        if precision in trainee.peak_bytes:
            row[precision]["peak_memory_mb"] = trainee.peak_bytes[precision] / 1e6
    return row


def _compared(rows: dict[str, dict[str, Any]], ours: str, peer: str) -> dict[str, float]:
    """Both in their better precision."""
    best = {
        name: max(rows[name][precision]["samples_per_s"] for precision in DTYPES if precision in rows[name])
        for name in (ours, peer)
    }
    return {"ours": best[ours], "peer": best[peer], "ratio": best[ours] / best[peer]}


def format_rows(rows: dict[str, dict[str, Any]]) -> str:
    """A line for each policy and precision."""
    lines = []
    for name, row in rows.items():
        for precision in (precision for precision in DTYPES if precision in row):
            cell = row[precision]
            parts = [
                f"{name:32} {row['parameters'] / 1e6:5.1f}M",
                f"{precision:7} {cell['samples_per_s']:9,.1f} samples per second",
                f"utilisation {cell['utilisation']:.0%}",
                *([f"{cell['peak_memory_mb']:,.0f} MB"] if "peak_memory_mb" in cell else []),
            ]
            lines.append("   ".join(parts))
    return "\n".join(lines)
