"""How punctual the control loop is while inference takes all the processor it can get."""

import importlib
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embodied.robots.devices import SimSO101Config
from embodied.serving.inference import Target
from embodied.serving.local import LocalPolicy
from embodied.serving.run import drive
from embodied.serving.run_config import PolicyHere, RunConfig
from embodied.serving.runner import PolicyRunner
from embodied.serving.runners import find_target
from embodied.serving.specification import Specification, to_plain

P99_MS = 5.0
NUMBERS = 1 << 20
"""Whose sines are taken without end."""

CHUNK = {"chunk_size": 12, "n_action_steps": 12, "modes": ("reactive",)}
"""How a policy that holds still decides, if none is given."""


def bench_jitter(
    *, seconds: float, policy: Path | None, port: str, busy: bool = True, realtime: bool = False
) -> dict[str, Any]:
    """Drive `sim_so101` for so long by a policy here whose process computes without pause on every core.

    policy: a checkpoint or an export, one that holds still if None; port: the robot's name; busy: False for
    a process that only decides, as a control; realtime: as for `embodied run`, whose result this returns,
    and `ok`.
    """

    def connector(offers: Specification) -> Any:
        target = (
            holding(offers) if policy is None else find_target(policy, null=False, device=None, overrides=[])
        )
        if busy:
            target = Target(function=f"{__name__}:saturating", arguments={"target": vars(target)})
        return partial(LocalPolicy, target, robot=offers)

    config = RunConfig(
        robot=SimSO101Config(port=port),
        task="bring the gripper around the red cube",
        policy=PolicyHere(path=policy or Path("holding_still")),
        seconds=seconds,
        patience=300.0,
        realtime=realtime,
    )
    result = drive(config, connector)
    return {**result, "ok": result["tick_times"]["behind"]["p99_ms"] <= P99_MS, "busy": busy}


def holding(offers: Specification) -> Target:
    """A policy for this robot that holds still."""
    specification = to_plain(offers) | {"checkpoint": "0" * 64, **CHUNK}
    arguments = {"specification": specification}
    return Target(function="embodied.serving.runners:holding_still_as", arguments=arguments)


def saturating(target: dict[str, Any]) -> PolicyRunner:
    """A policy, in a process whose threads, as many as there are cores, compute without pause."""
    module, name = target["function"].split(":")
    runner = getattr(importlib.import_module(module), name)(**target["arguments"])
    for seed in range(os.cpu_count() or 1):
        threading.Thread(target=_compute, args=(seed,), daemon=True).start()
    return runner


def _compute(seed: int) -> None:
    numbers = np.random.default_rng(seed).standard_normal(NUMBERS)
    while True:
        np.sin(numbers, out=numbers)
