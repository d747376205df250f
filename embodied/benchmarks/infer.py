"""`embodied bench infer`: time per chunk in every mode, beside LeRobot's ACT at the same picture size.

All policies are freshly initialised, as latency does not depend on what was learned; they decide in turn, one
decision each, so that whatever else runs on the machine slows all of them. Batch 1, without processors.

The untrained policies, their input and the timing in turn serve other benches as well.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import (
    ACTION,
    OBS_IMAGES,
    OBS_LANGUAGE_ATTENTION_MASK,
    OBS_LANGUAGE_TOKENS,
    OBS_STATE,
)
from tqdm import trange

from embodied.config import BenchConfig
from embodied.evaluation.statistics import percentiles_ms
from policies.latent_vla.configuration_latent_vla import MODES, LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.tokenizer import byte_tokenizer

ALL_CAMERAS = tuple(f"{OBS_IMAGES}.{name}" for name in ("corner", "gripper", "side", "top"))
CAMERAS = ALL_CAMERAS[:2]
STATE_SIZE = ACTION_SIZE = 4
INSTRUCTION = "press the button down from above"
WARM_UP = 3
UNIT = "milliseconds per chunk, batch 1"
PEER = "LeRobot's ACT"
THINKING: dict[str, Any] = {"world_model": True, "imagination": "latent"}
"""What a policy needs for every mode; so all modes carry the same weights."""


def bench_infer(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` x `config.steps` decisions of every mode and of the peer, and print a table.

    Returns `rows` (per policy `p50` and `p95` in milliseconds, and `times_reactive`, its median over that of
    mode `reactive`), `ours` and `peer` (medians of `reactive` and ACT), `ratio` (peer over ours: higher is
    better), `unit`, `candidates` of mode `plan` and what was measured on.
    """
    device = bench_device()
    batch = observation(config.image_size, device)
    policies = {mode: untrained(config.image_size, device, mode=mode, **THINKING) for mode in MODES}
    deciders: dict[str, Callable[[], Any]] = {
        name: lambda policy=policy: policy.predict_action_chunk(batch) for name, policy in policies.items()
    }
    peer = untrained_act(config.image_size, device)
    deciders[PEER] = lambda: peer.predict_action_chunk(batch)
    with torch.inference_mode():
        seconds = time_in_turn(deciders, config.repeats * config.steps, device, "bench infer")
    rows = latency_rows(seconds, "times_reactive", lambda _: "reactive")
    reactive = rows["reactive"]["p50"]
    return {
        "benchmark": "infer",
        "unit": UNIT,
        "rows": rows,
        "ours": reactive,
        "peer": rows[PEER]["p50"],
        "ratio": rows[PEER]["p50"] / reactive,
        "preset": policies["plan"].config.preset,
        "candidates": policies["plan"].config.candidates,
        "picture": [config.image_size, config.image_size],
        "cameras": len(CAMERAS),
        "device": device,
    }


def bench_device() -> str:
    """Where a bench measures: CUDA if there is any."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def time_in_turn(
    deciders: Mapping[str, Callable[[], Any]],
    turns: int,
    device: str,
    description: str,
    *,
    warm_up: int = WARM_UP,
    unit: str = "decision",
) -> dict[str, list[float]]:
    """Seconds that each took in each turn, one call each per turn; turns of the warm-up are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in deciders}
    for turn in trange(warm_up + turns, desc=description, unit=unit):
        for name, decide in deciders.items():
            taken = _time(decide, device)
            if turn >= warm_up:
                seconds[name].append(taken)
    return seconds


def latency_rows(
    seconds: Mapping[str, list[float]], ratio: str, base: Callable[[str], str]
) -> dict[str, dict[str, Any]]:
    """`p50` and `p95` in milliseconds of each, and as `ratio` its median over that of its base; printed."""
    rows: dict[str, dict[str, Any]] = {name: percentiles_ms(taken) for name, taken in seconds.items()}
    for name, row in rows.items():
        row[ratio] = row["p50"] / rows[base(name)]["p50"]
        print(f"{name:22} p50 {row['p50']:7.1f} ms   p95 {row['p95']:7.1f} ms   {row[ratio]:.2f}")
    return rows


def _time(decide: Callable[[], Any], device: str) -> float:
    """Seconds of one decision, the accelerator's part included."""
    started = time.perf_counter()
    decide()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _features(size: int, cameras: int = len(CAMERAS)) -> dict[str, Any]:
    images = {key: PolicyFeature(FeatureType.VISUAL, (3, size, size)) for key in ALL_CAMERAS[:cameras]}
    return {
        "input_features": {**images, OBS_STATE: PolicyFeature(FeatureType.STATE, (STATE_SIZE,))},
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (ACTION_SIZE,))},
    }


def untrained(size: int, device: str, cameras: int = len(CAMERAS), **changes: Any) -> LatentVLAPolicy:
    """Our policy for pictures of `size` pixels, freshly initialised; changes: of its configuration."""
    config = LatentVLAConfig(device=device, **_features(size, cameras), **changes)
    return LatentVLAPolicy(config).to(device).eval()


def untrained_act(size: int, device: str, **changes: Any) -> PreTrainedPolicy:
    """LeRobot's ACT for the same input, freshly initialised; changes: of its configuration."""
    config = ACTConfig(device=device, pretrained_backbone_weights=None, **_features(size), **changes)
    return ACTPolicy(config).to(device).eval()


def observation(
    size: int, device: str, batch_size: int = 1, cameras: int = len(CAMERAS)
) -> dict[str, torch.Tensor]:
    """Random looks of every camera, random states, and one instruction for all of them."""
    generator = torch.Generator().manual_seed(0)
    text = byte_tokenizer()([INSTRUCTION] * batch_size, return_tensors="pt")
    batch = {
        **{key: torch.rand(batch_size, 3, size, size, generator=generator) for key in ALL_CAMERAS[:cameras]},
        OBS_STATE: torch.randn(batch_size, STATE_SIZE, generator=generator),
        OBS_LANGUAGE_TOKENS: text["input_ids"],
        OBS_LANGUAGE_ATTENTION_MASK: torch.as_tensor(text["attention_mask"]).bool(),
    }
    return {key: value.to(device) for key, value in batch.items()}
