"""`embodied bench growth`: what a decision costs as one thing grows at a time.

Pictures, cameras, the chunk's length, how many episodes are decided for at once, and the network's depth; all
else stays as preset `tiny` has it in mode `reactive`. Every setting takes one decision in turn, so that
whatever else runs on the machine slows all of them. The policies are freshly initialised, as latency does not
depend on what was learned. `embodied report` draws the result as curves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from embodied.benchmarks.infer import CAMERAS, bench_device, observation, time_in_turn, untrained
from embodied.config import BenchConfig
from embodied.evaluation.statistics import percentiles_ms
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy

UNIT = "milliseconds per decision"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is decided from and by whom: pixels of a picture, cameras, episodes, fields of the policy."""

    pixels: int
    cameras: int = len(CAMERAS)
    batch: int = 1
    policy: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One thing that grows: its values, and the setting for each, given the pixels of all others."""

    values: tuple[int, ...]
    setting: Callable[[int, int], Setting]


AXES = {
    "picture size, pixels": Axis(values=(48, 96, 144, 192), setting=lambda value, _: Setting(pixels=value)),
    "cameras": Axis(values=(1, 2, 3, 4), setting=lambda value, pixels: Setting(pixels=pixels, cameras=value)),
    "actions of a chunk": Axis(
        values=(6, 12, 24, 48),
        setting=lambda value, pixels: Setting(
            pixels=pixels, policy={"chunk_size": value, "n_action_steps": value}
        ),
    ),
    "episodes at once": Axis(
        values=(1, 2, 4, 8), setting=lambda value, pixels: Setting(pixels=pixels, batch=value)
    ),
    "layers of the backbone": Axis(
        values=(2, 3, 6, 12), setting=lambda value, pixels: Setting(pixels=pixels, policy={"depth": value})
    ),
}


def bench_growth(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` decisions of every setting, and print a table.

    Returns `growth` (per thing that grows a list of `value`, `p50` and `p95` in milliseconds and
    `parameters`), `unit`, `preset` and what was measured on. There is no peer.
    """
    device = bench_device()
    settings = {
        (name, value): axis.setting(value, config.image_size)
        for name, axis in AXES.items()
        for value in axis.values
    }
    policies = {key: _policy(setting, device) for key, setting in settings.items()}
    deciders: dict[str, Callable[[], Any]] = {
        _label(*key): _decider(policies[key], setting, device) for key, setting in settings.items()
    }
    with torch.inference_mode():
        seconds = time_in_turn(deciders, config.repeats * config.steps, device, "bench growth")
    growth: dict[str, list[dict[str, Any]]] = {name: [] for name in AXES}
    for (name, value), policy in policies.items():
        row = {"value": value, **percentiles_ms(seconds[_label(name, value)])}
        growth[name].append({**row, "parameters": sum(each.numel() for each in policy.parameters())})
        print(f"{_label(name, value):28} p50 {row['p50']:7.1f} ms   p95 {row['p95']:7.1f} ms")
    return {
        "benchmark": "growth",
        "unit": UNIT,
        "growth": growth,
        "preset": next(iter(policies.values())).config.preset,
        "picture": [config.image_size, config.image_size],
        "cameras": len(CAMERAS),
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _label(name: str, value: int) -> str:
    return f"{name}: {value}"


def _policy(setting: Setting, device: str) -> LatentVLAPolicy:
    return untrained(setting.pixels, device, setting.cameras, **setting.policy)


def _decider(policy: LatentVLAPolicy, setting: Setting, device: str) -> Callable[[], Any]:
    batch = observation(setting.pixels, device, setting.batch, setting.cameras)
    return lambda: policy.predict_action_chunk(batch)
