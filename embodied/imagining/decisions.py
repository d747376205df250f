"""What a `latent_vla` thought at each look of an episode, and what of it came true.

L looks of an episode, T history moments, K latent tokens, D width, N imagined scenes, C candidates,
V cameras, H action horizon, A action size.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from embodied.errors import UserError
from embodied.evaluation.diagnostics.horizon import moments
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from world_models.encoders import stack_cameras

SAME_CHUNK = 1e-4
"""Normalised actions that differ by less are the same: batches of looks are encoded together."""

Scenes = list[Tensor | None]
"""A scene (K, D) for each look, None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision.

    pictures: (V, H, W, 3) uint8, as seen; latents: (K, D) of them; chunk: (H, A), normalised, as chosen;
    imagined: (N, K, D), or None if the policy cannot imagine; values: (C,) predicted for the candidates, None
    but in mode `plan`; chosen: which of them was taken, None where a planner went on from them.
    """

    pictures: np.ndarray
    latents: Tensor
    chunk: Tensor
    imagined: Tensor | None = None
    values: Tensor | None = None
    chosen: int | None = None


class Witness:
    """Watches a policy decide, one environment at a time, and keeps what it thought."""

    def __init__(self, policy: LatentVLAPolicy) -> None:
        self._policy = policy
        self._forget()

    def _forget(self) -> None:
        self._looks: deque[dict[str, Any]] = deque(maxlen=self._policy.config.n_obs_steps)
        self._decisions: list[Decision] = []

    def take(self) -> list[Decision]:
        """The episode's decisions; what comes next belongs to another one."""
        decisions = self._decisions
        self._forget()
        return decisions

    def before(self, observation: dict[str, Any], batch: dict[str, Any], noise: Tensor | None) -> None:
        """See `embodied.evaluation.agents.Watch`; all of one environment."""
        config = self._policy.config
        cameras = list(config.image_features)
        latents = self._policy.encoder.encode(stack_cameras([batch[key] for key in cameras]))
        looks = self._history(batch)
        names = [key.rpartition(".")[2] for key in cameras]
        self._pictures = np.stack([observation["pixels"][name][0] for name in names])
        self._latents = latents[0].float().cpu()
        self._imagined: Tensor | None = None
        if config.imagination == "latent":
            # Behind a scene's own tokens may stand its sub-goal's.
            self._imagined = self._policy.imagine(looks)[0, :, : latents.shape[1]].float().cpu()
        self._proposed: tuple[Tensor, Tensor] | None = None
        if config.mode == "plan":
            assert noise is not None
            self._proposed = self._policy.propose(looks, noise[:, : config.candidates])

    def after(self, chunk: Tensor) -> None:
        """See `embodied.evaluation.agents.Watch`."""
        values, chosen = None, None
        if self._proposed is not None:
            candidates, scores = self._proposed
            values = scores[0].float().cpu()
            apart = (candidates[0] - chunk).abs().flatten(1).amax(1)
            chosen = int(apart.argmin()) if float(apart.min()) < SAME_CHUNK else None
        self._decisions.append(
            Decision(
                pictures=self._pictures,
                latents=self._latents,
                chunk=chunk[0].float().cpu(),
                imagined=self._imagined,
                values=values,
                chosen=chosen,
            )
        )

    def _history(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The last T looks as one batch; the first is repeated before the start."""
        self._looks.append(batch)
        while len(self._looks) < self._policy.config.n_obs_steps:
            self._looks.appendleft(self._looks[0])
        if len(self._looks) == 1:
            return batch
        timed = (*self._policy.config.image_features, OBS_STATE)
        return {
            key: torch.stack([look[key] for look in self._looks], dim=1) if key in timed else value
            for key, value in batch.items()
        }


def looks_ahead(policy: LatentVLAPolicy) -> int:
    """How many looks later a chunk ends; UserError if that is between two looks."""
    config = policy.config
    if config.chunk_size % config.n_action_steps:
        raise UserError(
            f"--policy.n_action_steps={config.n_action_steps}: expected a divisor of "
            f"chunk_size={config.chunk_size}, so that there is a look where a chunk ends"
        )
    return config.chunk_size // config.n_action_steps


@torch.inference_mode()
def expected_scenes(policy: LatentVLAPolicy, decisions: Sequence[Decision]) -> dict[str, Scenes]:
    """By source, what was expected of each look when that was still to come: L entries each.

    `foreseen`: by the world model, of the chunk that was chosen a chunk earlier; `imagined`: by the plan of
    that moment; `imagined 2 chunks ahead` and so on: by earlier plans, N in all.
    """
    assert policy.foresight is not None
    ahead, total = looks_ahead(policy), len(decisions)
    latents = torch.stack([decision.latents for decision in decisions])
    rows = torch.tensor([moments(look, policy.config.n_obs_steps, 1) for look in range(total)])
    chunks = torch.stack([decision.chunk for decision in decisions])
    device = str(policy.config.device)
    foreseen = policy.foresight.model.step(latents[rows].to(device), chunks.to(device)).float().cpu()
    found: dict[str, Scenes] = {"foreseen": _shifted(list(foreseen), ahead)}
    plans = [decision.imagined for decision in decisions if decision.imagined is not None]
    for step in range(len(plans[0]) if plans else 0):
        name = "imagined" if step == 0 else f"imagined {step + 1} chunks ahead"
        found[name] = _shifted([plan[step] for plan in plans], ahead * (step + 1))
    return found


def _shifted(scenes: list[Tensor], looks: int) -> Scenes:
    """Scenes told at each look, moved to the look that they tell of."""
    return [*[None] * min(looks, len(scenes)), *scenes[: max(0, len(scenes) - looks)]]


def surprises(
    decisions: Sequence[Decision], expected: dict[str, Scenes], ahead: int
) -> list[dict[str, float | None]]:
    """By source the mean squared error of what was expected of each look, None where nothing was.

    Beside them `nothing moved`, the floor: the error if all had stayed as it was a chunk earlier.
    """
    seen = [decision.latents for decision in decisions]
    stood_still = _shifted(seen, ahead)
    sources = {**expected, "nothing moved": stood_still}
    return [
        {name: _error(scenes[look], latents) for name, scenes in sources.items()}
        for look, latents in enumerate(seen)
    ]


def _error(scene: Tensor | None, latents: Tensor) -> float | None:
    return None if scene is None else float((scene - latents).square().mean())
