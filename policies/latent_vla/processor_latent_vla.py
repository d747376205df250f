"""Processors of `latent_vla`: instruction to tokens, normalisation in, actions in their own units out."""

import logging
from typing import Any

import torch
from lerobot.configs.types import FeatureType, NormalizationMode
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.utils.constants import POLICY_POSTPROCESSOR_DEFAULT_NAME, POLICY_PREPROCESSOR_DEFAULT_NAME

from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.tokenizer import ByteTokenizerStep

logger = logging.getLogger(__name__)

Statistics = dict[str, dict[str, Any]]
CONSTANT = 1e-5
"""A dimension whose standard deviation or range is below this carries no information."""

NEEDED = {
    NormalizationMode.MEAN_STD: ("mean", "std"),
    NormalizationMode.MIN_MAX: ("min", "max"),
    NormalizationMode.QUANTILES: ("q01", "q99"),
    NormalizationMode.QUANTILE10: ("q10", "q90"),
}


def checked_statistics(config: LatentVLAConfig, statistics: Statistics) -> Statistics:
    """What normalisation needs; missing is an error, constant dimensions map to zero with a warning."""
    checked = dict(statistics)
    for key, feature in {**(config.input_features or {}), **(config.output_features or {})}.items():
        mode = config.normalization_mapping.get(feature.type.value, NormalizationMode.IDENTITY)
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
    dimensions = constant.nonzero().flatten().tolist()
    logger.warning("%s is constant in dimensions %s: mapped to zero", key, dimensions)
    if high == "std":
        return {**statistics, "std": torch.where(constant, torch.ones_like(second), second)}
    return {
        **statistics,
        low: torch.where(constant, first - 1, first),
        high: torch.where(constant, second + 1, second),
    }


def make_latent_vla_pre_post_processors(
    config: LatentVLAConfig, dataset_stats: Statistics | None = None
) -> tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]:
    """Pre-processor (batch, tokens, device, normalise) and post-processor (unnormalise, to CPU).

    dataset_stats is None only where LeRobot loads saved processors, which bring their own statistics.
    """
    statistics = None if dataset_stats is None else checked_statistics(config, dataset_stats)
    features = {**(config.input_features or {}), **(config.output_features or {})}
    norm_map = {FeatureType(kind): mode for kind, mode in config.normalization_mapping.items()}
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        ByteTokenizerStep(max_length=config.max_instruction_bytes),
        DeviceProcessorStep(device=config.device),
        NormalizerProcessorStep(features, norm_map, stats=statistics, device=config.device),
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
