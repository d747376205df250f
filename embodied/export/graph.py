"""A decision as one graph of tensors: pictures, state and token ids in, actions in the robot's units out.

Scaling of pictures and normalisation, the checkpoint's own steps, lie inside. The noise is an input, the
Euler steps are unrolled. What an episode leaves behind (history, memory) comes in and goes out.

B batch, H chunk steps, A action size, S state size, L instruction tokens, T history steps, K latent tokens,
D width, M capacity of the memory.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from lerobot.processor import PolicyProcessorPipeline, TokenizerProcessorStep
from lerobot.processor.converters import batch_to_transition, transition_to_batch
from lerobot.utils.constants import (
    ACTION,
    OBS_IMAGES,
    OBS_LANGUAGE_ATTENTION_MASK,
    OBS_LANGUAGE_TOKENS,
    OBS_STATE,
)
from torch import Tensor, nn

from embodied.serving.exported_runner import (
    ACTIONS,
    FIRST,
    IMAGE,
    LEFT,
    MASK,
    NOISE,
    NORMALIZED,
    PAST,
    PREFIX,
    STATE,
    TOKENS,
    WEIGHTS,
)
from policies.latent_vla.continuation import Prefix
from policies.latent_vla.memory import IS_FIRST, Bank, empty_bank
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.recollection import Recollection
from policies.latent_vla.relative_actions import add_anchor

BANK = tuple(field.name for field in fields(Bank))


class DecisionGraph(nn.Module):
    """What is traced: `forward` of tensors by name, see `example`."""

    def __init__(
        self,
        policy: LatentVLAPolicy,
        preprocessor: PolicyProcessorPipeline,
        postprocessor: PolicyProcessorPipeline,
    ) -> None:
        super().__init__()
        self.policy = policy
        self._before = [step for step in preprocessor.steps if not isinstance(step, TokenizerProcessorStep)]
        self._after = postprocessor

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Decide.

        inputs: `image.<camera>` (B, height, width, 3) uint8; `state` (B, S); `tokens` and `mask` (B, L);
        `noise` (B, H, A); for a flow head `prefix` (B, H, A) in real units and its `weights` (B, H), 0 where
        there is none; for what remembers `is_first` (B,) bool and `past.*`, what was `left.*` before.
        Returns `actions` (B, H, A) in real units, the same `normalized`, and `left.*`.
        """
        batch = self._preprocessed(inputs)
        prefix = None
        if PREFIX in inputs:
            prefix = Prefix(add_anchor(batch[ACTION], batch), inputs[WEIGHTS])
        self.policy.recollection = _recollection(inputs)
        chunk = self.policy.continue_chunk(batch, inputs[NOISE], prefix)
        outputs = {ACTIONS: self._after(chunk), NORMALIZED: chunk}
        left, self.policy.recollection = self.policy.recollection, None
        assert left is not None
        return outputs | (_left(left) if FIRST in inputs else {})

    def _preprocessed(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        batch: dict[str, Any] = {
            OBS_STATE: inputs[STATE],
            OBS_LANGUAGE_TOKENS: inputs[TOKENS],
            OBS_LANGUAGE_ATTENTION_MASK: inputs[MASK],
        }
        for key in self.policy.config.image_features:
            pictures = inputs[IMAGE + key.removeprefix(f"{OBS_IMAGES}.")]
            batch[key] = pictures.movedim(-1, -3).float() / 255
        if PREFIX in inputs:
            batch[ACTION] = inputs[PREFIX]
        transition = batch_to_transition(batch)
        for step in self._before:
            transition = step(transition)
        batch = transition_to_batch(transition)
        return batch | {IS_FIRST: inputs[FIRST]} if FIRST in inputs else batch


def _recollection(inputs: dict[str, Tensor]) -> Recollection | None:
    if FIRST not in inputs:
        return None
    past = {name.removeprefix(PAST): value for name, value in inputs.items() if name.startswith(PAST)}
    bank = Bank(**{name: past.pop(name) for name in BANK}) if BANK[0] in past else None
    return Recollection(**past, bank=bank)


def _left(left: Recollection) -> dict[str, Tensor]:
    bank = {} if left.bank is None else vars(left.bank)
    return {
        LEFT + name: value for name, value in {"latents": left.latents, "states": left.states, **bank}.items()
    }


def example(policy: LatentVLAPolicy, cameras: Sequence[str], *, batch: int, length: int) -> dict[str, Tensor]:
    """Inputs of the right shapes and types, of zeros; length: L."""
    config = policy.config
    chunk = (batch, config.chunk_size, config.action_size)
    inputs = {}
    for camera in cameras:
        _, height, width = config.image_features[f"{OBS_IMAGES}.{camera}"].shape
        inputs[IMAGE + camera] = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    inputs |= {
        STATE: torch.zeros(batch, config.state_size),
        TOKENS: torch.ones(batch, length, dtype=torch.long),
        MASK: torch.ones(batch, length, dtype=torch.bool),
        NOISE: torch.zeros(chunk),
    }
    if policy.supports_rtc():
        inputs |= {PREFIX: torch.zeros(chunk), WEIGHTS: torch.zeros(chunk[:2])}
    if config.n_obs_steps == 1 and policy.memory is None:
        return inputs
    latents = torch.zeros(batch, config.n_obs_steps, config.num_latents, config.dim)
    inputs |= {
        FIRST: torch.ones(batch, dtype=torch.bool),
        PAST + "latents": latents,
        PAST + "states": torch.zeros(batch, config.n_obs_steps, config.state_size),
    }
    if policy.memory is not None:
        memory = policy.memory
        bank = empty_bank(batch, memory.capacity, memory.dim, latents.device)
        inputs |= {PAST + name: value for name, value in vars(bank).items()}
    return inputs


def output_names(inputs: dict[str, Tensor]) -> list[str]:
    """Names of what comes out where these come in, in its order."""
    left = [LEFT + name.removeprefix(PAST) for name in inputs if name.startswith(PAST)]
    return [ACTIONS, NORMALIZED, *left]
