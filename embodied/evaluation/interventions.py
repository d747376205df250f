"""Interventions: change one thing that a policy is given, hold the rest, and see what it costs."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from embodied.data.cache import FrameCache
from embodied.errors import UserError
from embodied.evaluation.calibration import calibrate, draw_observations
from embodied.evaluation.evaluate import evaluate_policy
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import Row, summarise
from embodied.lerobot_plugin import SimulatedEnvConfig
from policies.latent_vla.interventions import INTERVENTIONS
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy

Rates = dict[str, dict[str, float]]


def swap_instructions(
    policy: Sequence[Any],
    env: SimulatedEnvConfig,
    instructions: Mapping[str, str],
    *,
    episodes: int,
    seed: int,
) -> tuple[Rates, list[Row]]:
    """Run every task on the same states with its own instruction and with every other task's.

    policy: as `load_policy` gives it; instructions: per task. Returns success at the task itself,
    `rates[task][task whose instruction was given]`, and the episodes, whose arm says what was told.
    """
    rates: Rates = {task: {} for task in instructions}
    rows: list[Row] = []
    model, preprocessor, postprocessor = policy
    for task in instructions:
        for said, instruction in instructions.items():
            scene = dataclasses.replace(env, task=task, instruction=instruction)
            told = evaluate_policy(model, preprocessor, postprocessor, scene, episodes=episodes, seed=seed)
            rows += [{**row, "arm": f"told {said}"} for row in told]
            rates[task][said] = summarise(told)["success_rate"]
    return rates, rows


def least_cost(rates: Mapping[str, float], own: str, including: Collection[str] = ()) -> float:
    """What the least harmful of the other instructions costs the task, as a difference of success rates.

    including: instructions whose fulfilment fulfils the task too, which are left aside.
    """
    return min(rates[own] - rate for said, rate in rates.items() if said != own and said not in including)


def plan_effects(
    policy: LatentVLAPolicy, batch: dict[str, Any], names: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """How much the chunk changes at fixed states when the imagined plan is replaced and the text is held.

    policy: trained to imagine and calibrated; batch: B observations of the present, preprocessed; names: of
    INTERVENTIONS. Chunks are decoded in mode `imagine` at temperature 1, from the same noise. Changes are
    root mean squares over states, steps and dimensions, in units of normalised actions. Returns `states` (B),
    `noise`, the change from one draw of the noise to another, and under `effects` per intervention its
    `change` and the `ratio` of the two.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (2, len(batch[OBS_STATE]), policy.config.chunk_size, policy.config.action_size)
    noise, other_noise = torch.randn(shape, generator=generator).to(policy.config.device).unbind(0)

    def decide(name: str, noise: Tensor) -> Tensor:
        with _decides(policy, mode="imagine", temperature=1.0, intervention=name):
            policy.reset()
            return policy.predict_action_chunk(batch, noise=noise)

    usual = decide("none", noise)
    by_noise = _rms(decide("none", other_noise) - usual)
    changes = {name: _rms(decide(name, noise) - usual) for name in names}
    return {
        "states": shape[1],
        "noise": by_noise,
        "effects": {
            name: {"change": change, "ratio": change / by_noise if by_noise else None}
            for name, change in changes.items()
        },
    }


def checkpoint_plan_effects(
    path: Path, cache: FrameCache, *, states: int = 256, calibration_seed: int = 0, states_seed: int = 1
) -> dict[str, Any]:
    """`plan_effects` of a checkpoint at frames of a data set, calibrated on others of its frames.

    `other_instruction` is left out where the data set has a single instruction. Raises UserError for a
    checkpoint of another policy, or of one that was not trained to imagine.
    """
    policy, preprocessor, _ = load_policy(path)
    if not isinstance(policy, LatentVLAPolicy) or policy.imagination is None:
        raise UserError(f"{path}: expected a checkpoint of latent_vla with --policy.imagination")
    policy.calibration = calibrate(policy, preprocessor, cache, seed=calibration_seed)
    names = [name for name in INTERVENTIONS if name != "none"]
    if len(cache.tasks) < 2:
        names.remove("other_instruction")
    return plan_effects(policy, preprocessor(draw_observations(cache, states, states_seed)), names)


@contextmanager
def _decides(policy: LatentVLAPolicy, **settings: Any) -> Iterator[None]:
    """The policy's configuration with other settings of how it decides."""
    before = {name: getattr(policy.config, name) for name in settings}
    for name, value in settings.items():
        setattr(policy.config, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(policy.config, name, value)


def _rms(change: Tensor) -> float:
    return float(change.float().square().mean().sqrt())
