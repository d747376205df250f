"""Observations of a data set that is named, or of the one a checkpoint was trained on.

Interventions on imagined plans need those of other episodes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS

from embodied.config import DatasetConfig
from embodied.data.cache import FrameCache
from embodied.data.windows import Batch, gather_windows, scale_images
from embodied.errors import UserError
from embodied.manifest import read_json
from embodied.training.checkpoint import PROVENANCE, TRAINING_STATE, resolve_checkpoint
from policies.latent_vla.interventions import CALIBRATED, Calibration
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy

PLANS = 64


def open_dataset(dataset: DatasetConfig) -> FrameCache:
    """The part of a data set that `dataset` selects, under the names of cameras that it gives."""
    return FrameCache.open(
        dataset.root, cameras=dataset.cameras, episodes=dataset.episodes, success_only=dataset.success_only
    )


def trained_on(path: Path, purpose: str) -> DatasetConfig:
    """The data that a checkpoint was trained on, as its files tell; UserError if it is not there.

    purpose: what it is needed for, to end a message with.
    """
    folder = resolve_checkpoint(path)
    provenance, state = folder / PROVENANCE, folder / TRAINING_STATE / "state.json"
    root = read_json(provenance)["dataset"].get("root") if provenance.is_file() else None
    if root is None or not Path(root).is_dir():
        where = f"{root} is not there" if root else f"{folder} does not name the data it was trained on"
        raise UserError(f"--dataset.root is missing: {where}: expected a data set {purpose}")
    used = read_json(state)["run"]["dataset"] if state.is_file() else {}
    return DatasetConfig(root=Path(root), cameras=used.get("cameras"), episodes=used.get("episodes"))


def draw_observations(cache: FrameCache, count: int, seed: int) -> Batch:
    """Observations at `count` frames of a data set, or at all it has, as a preprocessor takes them."""
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.choice(cache.frames, size=min(count, len(cache.frames)), replace=False))
    return scale_images(gather_windows(cache, frames, {}))


def read_instructions(
    preprocessor: PolicyProcessorPipeline, observation: Batch, instructions: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask (I, L) of instructions; observation: any batch, of which the first is used."""
    first = {key: value[:1] for key, value in observation.items()}
    repeated: dict[str, Any] = {
        key: value.repeat_interleave(len(instructions), 0) if isinstance(value, torch.Tensor) else value
        for key, value in first.items()
    }
    batch = preprocessor({**repeated, "task": list(instructions)})
    return batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]


def calibrate(
    policy: LatentVLAPolicy,
    preprocessor: PolicyProcessorPipeline,
    cache: FrameCache,
    *,
    plans: int = PLANS,
    seed: int = 0,
) -> Calibration:
    """Plans imagined at `plans` frames of a data set, each under its own instruction; all its instructions.

    A function of policy, data and seed: the same in every evaluation.
    """
    observation = draw_observations(cache, plans, seed)
    tokens, mask = read_instructions(preprocessor, observation, cache.tasks.tolist())
    return Calibration(plans=policy.imagine(preprocessor(observation)), tokens=tokens, mask=mask)


def prepare_intervention(
    policy: PreTrainedPolicy, preprocessor: PolicyProcessorPipeline, dataset: DatasetConfig | None
) -> None:
    """Give the policy the calibration that its `--policy.intervention` needs, if it needs one.

    Raises UserError if no data set is there for it, or if it has but one instruction where others are needed.
    """
    if not isinstance(policy, LatentVLAPolicy) or policy.config.intervention not in CALIBRATED:
        return
    name = policy.config.intervention
    if dataset is None:
        raise UserError(
            f"--policy.intervention={name}: expected --calibration.root as well, a data set to take it from"
        )
    cache = open_dataset(dataset)
    if name == "other_instruction" and len(cache.tasks) < 2:
        raise UserError(
            f"--policy.intervention={name}: expected a data set with two instructions or more, found only "
            f"“{cache.tasks[0]}” in {dataset.root}"
        )
    policy.calibration = calibrate(policy, preprocessor, cache)
