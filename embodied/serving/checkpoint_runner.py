"""A checkpoint behind `PolicyRunner`: one policy in memory, what it remembers taken out and put back.

B requests, H chunk steps, A action size.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.serving.runner import Request
from embodied.serving.sessions import Outcome, SessionRunner, stack_prefixes
from embodied.serving.specification import PLAN, Specification, from_checkpoint
from policies.latent_vla.continuation import Prefix
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.recollection import Recollection, join
from policies.latent_vla.relative_actions import add_anchor


class CheckpointPolicy:
    """A `latent_vla` checkpoint: implements `Decider`."""

    specification: Specification

    def __init__(self, path: Path, *, device: str | None = None, overrides: list[str] | None = None) -> None:
        """Arguments as for `load_policy`; UserError for a checkpoint that cannot be used."""
        noted = from_checkpoint(path)
        policy, self.preprocessor, self.postprocessor = load_policy(path, device, overrides)
        if not isinstance(policy, LatentVLAPolicy):
            raise UserError(f"{path}: holds a policy of type {policy.config.type}: expected latent_vla")
        self.policy = policy
        self.specification = replace(
            noted,
            n_action_steps=policy.config.n_action_steps,
            candidates=policy.config.candidates if PLAN in noted.modes else 0,
        )

    def noise_shape(self, mode: str, candidates: int = 0) -> tuple[int, ...]:
        """(H, A), or those of several candidates."""
        self._decide_by(mode, candidates or self.specification.candidates)
        return self.policy.config.noise_shape

    @torch.inference_mode()
    def decide(
        self, mode: str, requests: Sequence[Request], noise: np.ndarray, past: Sequence[Recollection | None]
    ) -> Outcome:
        """Decide as the policy does in an evaluation."""
        policy = self.policy
        batch, weights = _batch_of(requests), None
        if requests[0].prefix is not None:
            prefixes, weights = stack_prefixes(requests, self.specification)
            batch[ACTION] = torch.from_numpy(prefixes)
        batch = self.preprocessor(batch)
        prefix = None
        if weights is not None:
            prefix = Prefix(add_anchor(batch[ACTION], batch), torch.from_numpy(weights).to(batch[ACTION]))
        self._decide_by(mode, noise.shape[1] // policy.config.rounds)
        left = [one for one in past if one is not None]
        policy.recollection = join(left) if left else None
        chunk = policy.continue_chunk(batch, torch.from_numpy(noise).to(batch[OBS_STATE]), prefix)
        recollection, policy.recollection = policy.recollection, None
        assert recollection is not None
        return Outcome(
            actions=self.postprocessor(chunk.float()).numpy(),
            normalized=chunk.float().cpu().numpy(),
            past=[recollection.row(index) for index in range(len(requests))],
        )

    def _decide_by(self, mode: str, candidates: int) -> None:
        """One policy serves every session: nothing else in it depends on these."""
        config = self.policy.config
        config.mode = mode
        if mode == PLAN:
            config.candidates = candidates


class CheckpointRunner(SessionRunner):
    """Sessions over a checkpoint."""

    def __init__(
        self, path: Path, *, device: str | None = None, overrides: list[str] | None = None, seed: int = 0
    ) -> None:
        """Arguments as for `load_policy`; seed: of the noise. UserError for what cannot be used."""
        super().__init__(CheckpointPolicy(path, device=device, overrides=overrides), seed=seed)


def _batch_of(requests: Sequence[Request]) -> dict[str, Any]:
    """What the pre-processor takes: pictures (B, 3, height, width) in [0, 1], states and instructions."""
    batch: dict[str, Any] = {"task": [request.task for request in requests]}
    for camera in requests[0].images:
        pictures = np.stack([request.images[camera] for request in requests])
        batch[f"{OBS_IMAGES}.{camera}"] = torch.from_numpy(pictures).movedim(-1, -3).float() / 255
    states = np.stack([request.state for request in requests]).astype(np.float32)
    return batch | {OBS_STATE: torch.from_numpy(states)}
