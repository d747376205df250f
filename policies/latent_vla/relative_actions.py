"""Actions relative to the state at the start of their chunk, for joints named the same in state and action.

LeRobot's own steps for this subtract by position, not by name, and add the state of the *present* step back,
so that the later actions of a chunk that `select_action` hands out one by one drift. Here the policy adds
the state at which it looked, in units of normalised actions, to the chunk it predicts. Normalisation is
affine, so the plain un-normaliser gives absolute actions whoever asks for them, by chunks or one by one.

B batch, H action horizon, A action size, T history steps, S state size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.configs.types import NormalizationMode
from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor import ProcessorStep, ProcessorStepRegistry
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

ACTION_ANCHOR = "observation.action_anchor"
"""(B, A) in a batch: the state that actions are relative to, in units of normalised actions."""

RELATIVE_ACTION = "action.relative"
"""Key of the statistics of relative chunk entries."""

ABSOLUTE = -1
"""In place of a state dimension: the action is not relative."""


def add_anchor(chunk: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Chunks (B, ..., H, A) as normalised absolute actions, where the batch says that they are relative."""
    if ACTION_ANCHOR not in batch:
        return chunk
    anchor = batch[ACTION_ANCHOR]
    return chunk.float() + anchor.reshape(anchor.shape[0], *[1] * (chunk.ndim - 2), -1)


def subtract_anchor(chunk: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Normalised absolute actions (B, P, A) as `add_anchor` takes them."""
    return chunk - batch[ACTION_ANCHOR][:, None] if ACTION_ANCHOR in batch else chunk


def dimension_names(feature: Mapping[str, Any]) -> list[str] | None:
    """Names of a vector's dimensions; LeRobot's older data sets nest them: `{"motors": [...]}`."""
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = next(iter(names.values())) if len(names) == 1 else list(names)
    return [str(name) for name in names] if isinstance(names, Sequence) and len(names) else None


def relative_sources(features: Mapping[str, Mapping[str, Any]], exclude_joints: Sequence[str]) -> list[int]:
    """For each action dimension the state dimension of the same name, `ABSOLUTE` where there is none.

    features: LeRobot's description of a data set; exclude_joints: parts of names, in any case, of joints that
    stay absolute. Raises ValueError if no action is relative.
    """
    actions, states = (dimension_names(features.get(key, {})) or [] for key in (ACTION, OBS_STATE))
    excluded = [part.lower() for part in exclude_joints]
    sources = [
        states.index(name)
        if name in states and not any(part in name.lower() for part in excluded)
        else ABSOLUTE
        for name in actions
    ]
    if all(source == ABSOLUTE for source in sources):
        raise ValueError(
            f"--policy.relative_actions=true: expected joints named the same in {OBS_STATE} and {ACTION} "
            f"beside {list(exclude_joints)}, found {states or 'no names'} and {actions or 'no names'}"
        )
    return sources


def action_units(statistics: Mapping[str, Any], mode: NormalizationMode) -> Tensor:
    """How much one unit of the normalised action is, (A,): what un-normalising multiplies by."""
    if mode is NormalizationMode.MEAN_STD:
        return torch.as_tensor(statistics["std"], dtype=torch.float32)
    bounds = {
        NormalizationMode.MIN_MAX: ("min", "max"),
        NormalizationMode.QUANTILES: ("q01", "q99"),
        NormalizationMode.QUANTILE10: ("q10", "q90"),
    }
    if mode not in bounds:
        raise ValueError(f"--policy.relative_actions=true: expected normalised actions, found {mode.value}")
    low, high = (torch.as_tensor(statistics[name], dtype=torch.float32) for name in bounds[mode])
    return (high - low) / 2


@ProcessorStepRegistry.register("latent_vla_relative_actions")
@dataclass
class RelativeActionsStep(ProcessorStep):
    """Subtracts the state from the actions of a batch, and adds it to the batch as `ACTION_ANCHOR`.

    It stands before normalisation. sources: what `relative_sources` gives; units: what `action_units` gives.
    """

    sources: list[int] = field(default_factory=list)
    units: Tensor | None = None

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Add the anchor; actions (B, H, A) become relative where the batch has any."""
        if self.units is None:
            raise ValueError("relative actions: expected the units of the action, found none")
        changed: Any = transition.copy()  # TypedDict keys cannot be enum members for the type checker
        observation: dict[str, Any] = dict(changed[TransitionKey.OBSERVATION])
        state: Tensor = observation[OBS_STATE]
        anchor = self._anchor(state[:, -1] if state.ndim == 3 else state)
        action = changed.get(TransitionKey.ACTION)
        observation[ACTION_ANCHOR] = anchor / self.units.to(anchor)
        changed[TransitionKey.OBSERVATION] = observation
        if isinstance(action, Tensor):
            changed[TransitionKey.ACTION] = action - (anchor[:, None] if action.ndim == 3 else anchor)
        return changed

    def _anchor(self, state: Tensor) -> Tensor:
        """(B, A) from (B, S): the state of each relative joint, zero for absolute ones."""
        sources = torch.tensor(self.sources, device=state.device)
        return state[:, sources.clamp(min=0)] * (sources != ABSOLUTE).to(state)

    def get_config(self) -> dict[str, Any]:
        """What the saved step is built from."""
        return {"sources": self.sources}

    def state_dict(self) -> dict[str, Tensor]:
        """The units."""
        return {} if self.units is None else {"units": self.units}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the saved units."""
        self.units = state["units"]

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """The anchor is no feature of the data."""
        return features
