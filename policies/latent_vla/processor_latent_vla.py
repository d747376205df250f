"""Processors of `latent_vla`: instruction to tokens, normalisation in, actions in their own units out.

`checked_statistics` serves every policy: what normalisation needs is the same for all of them. World models
trained alone are fed by `make_processors` as well.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    ProcessorStep,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.utils.constants import (
    ACTION,
    POLICY_POSTPROCESSOR_DEFAULT_NAME,
    POLICY_PREPROCESSOR_DEFAULT_NAME,
)

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.relative_actions import (
    RELATIVE_ACTION,
    RelativeActionsStep,
    action_units,
    relative_sources,
)
from policies.latent_vla.tokenizer import ByteTokenizerStep, EndedTokenizer, VLMTokenizerStep
from policies.latent_vla.vlm import load_tokenizer

logger = logging.getLogger(__name__)

Statistics = dict[str, dict[str, Any]]
Processors = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]
CONSTANT = 1e-5
"""A dimension whose standard deviation or range is below this carries no information."""

NEEDED = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


class Interface(Protocol):
    """What goes in and out of a model, and how each kind of it is normalised."""

    @property
    def input_features(self) -> dict[str, PolicyFeature] | None:
        """By their keys in a batch."""
        ...

    @property
    def output_features(self) -> dict[str, PolicyFeature] | None:
        """By their keys in a batch."""
        ...

    @property
    def normalization_mapping(self) -> dict[str, NormalizationMode]:
        """Per kind of feature: STATE, ENV, ACTION, VISUAL."""
        ...


def checked_statistics(config: PreTrainedConfig | Interface, statistics: Statistics) -> Statistics:
    """What normalisation needs; missing is an error, constant dimensions map to zero with a warning.

    Raises ValueError for missing statistics and for a kind of feature that the mapping does not name.
    """
    checked = dict(statistics)
    mapping: dict[str, NormalizationMode] = config.normalization_mapping  # type: ignore[attr-defined]
    for key, feature in {**(config.input_features or {}), **(config.output_features or {})}.items():
        if feature.type.value not in mapping:
            named = ", ".join(mapping) or "none"
            raise ValueError(
                f"--policy.normalization_mapping: names {named}, "
                f"expected {feature.type.value} as well, for {key}"
            )
        mode = mapping[feature.type.value]
        if mode is NormalizationMode.IDENTITY:
            continue
        low, high = NEEDED[mode]
        if not {low, high} <= statistics.get(key, {}).keys():
            raise ValueError(f"statistics of {key}: expected {low} and {high} for {mode.value} normalisation")
        checked[key] = _widen_constants(key, statistics[key], low, high)
    return checked


def _widen_constants(key: str, statistics: dict[str, Any], low: str, high: str) -> dict[str, Any]:
    first, second = (torch.as_tensor(statistics[name]).float() for name in (low, high))
    constant = (second if high == "std" else second - first).abs() < CONSTANT
    if not constant.any():
        return statistics
    dimensions = constant.flatten().nonzero().flatten().tolist()
    logger.warning("%s is constant in dimensions %s: mapped to zero", key, dimensions)
    if high == "std":
        return {**statistics, high: torch.where(constant, torch.ones_like(second), second)}
    return {
        **statistics,
        low: torch.where(constant, first - 1, first),
        high: torch.where(constant, second + 1, second),
    }


def _relative_statistics(statistics: Statistics) -> Statistics:
    """Those of relative chunk entries as those of the action."""
    others = dict(statistics)
    if RELATIVE_ACTION not in others:
        raise ValueError(
            f"--policy.relative_actions=true: expected statistics of {RELATIVE_ACTION}, "
            "which `embodied train` computes"
        )
    others[ACTION] = others.pop(RELATIVE_ACTION)
    return others


def _relative_step(
    config: LatentVLAConfig, statistics: Statistics, metadata: LeRobotDatasetMetadata | None
) -> RelativeActionsStep:
    if metadata is None:
        raise ValueError(
            "--policy.relative_actions=true: expected the data set's names of joints, found none"
        )
    return RelativeActionsStep(
        sources=relative_sources(metadata.features, config.relative_exclude_joints),
        units=action_units(statistics[ACTION], config.normalization_mapping["ACTION"]),
    )


def _tokenizer_step(config: LatentVLAConfig) -> ByteTokenizerStep:
    if config.backbone == "pretrained":
        tokenizer = load_tokenizer(config.vlm)
        return VLMTokenizerStep(tokenizer=EndedTokenizer(tokenizer.backend_tokenizer, tokenizer.eos_token_id))
    return ByteTokenizerStep(max_length=config.max_instruction_bytes)


def make_latent_vla_pre_post_processors(
    config: LatentVLAConfig,
    dataset_stats: Statistics | None = None,
    dataset_meta: LeRobotDatasetMetadata | None = None,
) -> Processors:
    """Pre-processor (batch, tokens, device, normalise) and post-processor (unnormalise, to CPU).

    dataset_stats is None only where LeRobot loads saved processors, which bring their own statistics.
    Relative actions need `RELATIVE_ACTION` among them, and the data set's names of joints. Raises ValueError
    for what is missing.
    """
    relative: list[RelativeActionsStep] = []
    statistics = dataset_stats
    if statistics is not None:
        if config.relative_actions:
            statistics = _relative_statistics(statistics)
        statistics = checked_statistics(config, statistics)
        if config.relative_actions:
            relative.append(_relative_step(config, statistics, dataset_meta))
    return make_processors(
        config,
        statistics,
        device=config.device,
        tokenizer=_tokenizer_step(config),
        before_normalisation=relative,
    )


def make_processors(
    config: Interface,
    statistics: Statistics | None,
    *,
    device: str | None,
    tokenizer: ByteTokenizerStep,
    before_normalisation: Sequence[ProcessorStep] = (),
) -> Processors:
    """Pre-processor and post-processor for what `config` says goes in and out.

    statistics: as `checked_statistics` gives them, or None where saved ones will be loaded;
    before_normalisation: further steps, on batches that are on the device and in their own units.
    """
    features = {**(config.input_features or {}), **(config.output_features or {})}
    norm_map = {FeatureType(kind): mode for kind, mode in config.normalization_mapping.items()}
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        tokenizer,
        DeviceProcessorStep(device=device),
        *before_normalisation,
        NormalizerProcessorStep(features, norm_map, stats=statistics, device=device),
    ]
    after = [
        UnnormalizerProcessorStep(config.output_features or {}, norm_map, stats=statistics),
        DeviceProcessorStep(device="cpu"),
    ]
    return (
        PolicyProcessorPipeline(steps=before, name=POLICY_PREPROCESSOR_DEFAULT_NAME),
        PolicyProcessorPipeline(
            steps=after,
            name=POLICY_POSTPROCESSOR_DEFAULT_NAME,
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        ),
    )
