"""Processors of `latent_mpc`: those of its world model, for it sees and acts in that model's units."""

from typing import Any

import torch
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.lerobot_types import TransitionKey
from lerobot.processor import NormalizerProcessorStep, PolicyAction, PolicyProcessorPipeline
from lerobot.processor.converters import (
    batch_to_transition,
    create_transition,
    policy_action_to_transition,
    transition_to_batch,
    transition_to_policy_action,
)
from lerobot.utils.constants import (
    ACTION,
    POLICY_POSTPROCESSOR_DEFAULT_NAME,
    POLICY_PREPROCESSOR_DEFAULT_NAME,
)
from torch import Tensor

import policies.latent_vla.processor_latent_vla  # noqa: F401  (registers the steps that are loaded)
from policies.latent_mpc.configuration_latent_mpc import LatentMPCConfig

Preprocessor = PolicyProcessorPipeline[dict[str, Any], dict[str, Any]]


def make_latent_mpc_pre_post_processors(
    config: LatentMPCConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: LeRobotDatasetMetadata | None = None,
) -> tuple[Preprocessor, PolicyProcessorPipeline[PolicyAction, PolicyAction]]:
    """Those saved in `config.world_model_path`, on the policy's device.

    Statistics of other data do not count. Raises ValueError if there is no such path.
    """
    if config.world_model_path is None:
        raise ValueError("--policy.world_model_path is missing: expected the checkpoint of a world model")
    postprocessor = PolicyProcessorPipeline.from_pretrained(
        config.world_model_path,
        f"{POLICY_POSTPROCESSOR_DEFAULT_NAME}.json",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return load_preprocessor(config), postprocessor


def load_preprocessor(config: LatentMPCConfig) -> Preprocessor:
    """The pre-processor saved in `config.world_model_path`."""
    assert config.world_model_path is not None
    return PolicyProcessorPipeline.from_pretrained(
        config.world_model_path,
        f"{POLICY_PREPROCESSOR_DEFAULT_NAME}.json",
        overrides={"device_processor": {"device": config.device}},
        to_transition=batch_to_transition,
        to_output=transition_to_batch,
    )


def action_range(preprocessor: Preprocessor) -> Tensor | None:
    """The least and the greatest action in the data, normalised, (2, A) on the CPU; None if not recorded.

    Of a policy with relative actions: the range of actions relative to the state.
    """
    for step in preprocessor.steps:
        if not isinstance(step, NormalizerProcessorStep):
            continue
        normalizer: Any = step
        statistics = (normalizer.stats or {}).get(ACTION, {})
        if not {"min", "max"} <= statistics.keys():
            return None
        extremes = [torch.as_tensor(statistics[name]).float().flatten() for name in ("min", "max")]
        normalised: Any = normalizer(create_transition(observation={}, action=torch.stack(extremes)))
        return normalised[TransitionKey.ACTION].cpu()
    return None
