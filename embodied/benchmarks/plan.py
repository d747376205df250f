"""`embodied bench plan`: what a decision costs in mode `plan`, against how many chunks it chooses among.

A decision reads the scene once, proposes `candidates` chunks, foresees and scores each; planner `cem` then
refines the best of them in a few iterations of as many again. Every setting, and `reactive` beside them,
takes one decision in turn, so that whatever else runs on the machine slows all of them. The policies are
freshly initialised, as latency does not depend on what was learned. Batch 1, without processors.
"""

from collections.abc import Callable
from typing import Any

import torch

from embodied.benchmarks.infer import (
    CAMERAS,
    THINKING,
    UNIT,
    bench_device,
    observation,
    time_in_turn,
    untrained,
)
from embodied.config import BenchConfig
from embodied.evaluation.statistics import percentiles_ms
from policies.latent_vla.configuration_latent_vla import REFINERS

CANDIDATES = (4, 8, 16, 32, 64)
REACTIVE = "reactive"


def bench_plan(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` decisions of every setting, and print a table.

    Returns `rows` (for `reactive`, and for each planner and number of candidates: `p50` and `p95` in
    milliseconds, and `times_reactive`, its median over that of `reactive`), `ours` (median of the policy's
    own planner and candidates), `unit`, `turns` (per setting every measurement, in milliseconds) and what was
    measured on. There is no peer.
    """
    device = bench_device()
    batch = observation(config.image_size, device)
    policies = {REACTIVE: untrained(config.image_size, device, mode=REACTIVE, **THINKING)}
    for planner in REFINERS:
        for candidates in CANDIDATES:
            setting = {"mode": "plan", "planner": planner, "candidates": candidates}
            name = setting_name(planner, candidates)
            policies[name] = untrained(config.image_size, device, **setting, **THINKING)
    deciders: dict[str, Callable[[], Any]] = {
        name: lambda policy=policy: policy.predict_action_chunk(batch) for name, policy in policies.items()
    }
    with torch.inference_mode():
        seconds = time_in_turn(deciders, config.repeats * config.steps, device, "bench plan")
    rows: dict[str, dict[str, Any]] = {name: percentiles_ms(taken) for name, taken in seconds.items()}
    for name, row in rows.items():
        row["times_reactive"] = row["p50"] / rows[REACTIVE]["p50"]
        print(f"{name:10} p50 {row['p50']:7.1f} ms   p95 {row['p95']:7.1f} ms   {row['times_reactive']:.2f}")
    chosen = policies[REACTIVE].config
    return {
        "benchmark": "plan",
        "unit": UNIT,
        "rows": rows,
        "ours": rows[setting_name(chosen.planner, chosen.candidates)]["p50"],
        "turns": {name: [round(1000 * each, 3) for each in taken] for name, taken in seconds.items()},
        "preset": chosen.preset,
        "refinements": chosen.refinements,
        "picture": [config.image_size, config.image_size],
        "cameras": len(CAMERAS),
        "device": device,
    }


def setting_name(planner: str, candidates: int) -> str:
    """The row of a planner that chooses among so many chunks."""
    return f"{planner} {candidates}"
