"""A LeRobot policy, ours or LeRobot's own, as something to train, built by LeRobot's own factories."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import draccus
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.envs.configs import EnvConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.utils.constants import OBS_IMAGE, REWARD
from lerobot.utils.feature_utils import dataset_to_policy_features
from torch import Tensor, nn

from embodied.data.cache import FrameCache
from embodied.data.dataset import first_line
from embodied.data.windows import delta_indices_of
from embodied.errors import UserError
from embodied.evaluation.evaluate import evaluate_policy
from embodied.evaluation.policy_loading import check_fits, rename_steps
from embodied.evaluation.world_model_loading import load_world_model
from embodied.lerobot_plugin import require_simulated
from embodied.training.initialisation import start_from_world_model
from embodied.training.provenance import specification
from embodied.training.trainable import EpisodeRows, Trainable
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.processor_latent_vla import checked_statistics

WHERE_IT_RUNS_OR_GOES = {
    "device",
    "intervention",
    "license",
    "memory",
    "pretrained_path",
    "private",
    "push_to_hub",
    "repo_id",
    "tags",
}
"""Fields of a policy's configuration that say nothing about the network that is trained."""

SEES_ONE_PICTURE = ("tdmpc",)
"""Policies that find their only picture under LeRobot's name `OBS_IMAGE`, and under no camera's name."""


def parameter_groups_of(policy: PreTrainedPolicy) -> list[dict[str, Any]]:
    """The policy's own parameter groups; parameters it leaves out of them are frozen."""
    params: Any = policy.get_optim_params()
    if isinstance(params, dict):
        raise UserError(
            f"--policy.type={policy.name}: has several optimizers: expected a policy trained with one"
        )
    items = list(params)
    groups = [{"params": items}] if items and isinstance(items[0], Tensor) else items
    groups = [{**group, "params": list(group["params"])} for group in groups]
    chosen = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in policy.parameters():
        if id(parameter) not in chosen:
            parameter.requires_grad_(False)
    return groups


def network_identity(config: PreTrainedConfig) -> dict[str, Any]:
    """The policy's configuration without the fields that do not change what is trained."""
    encoded = draccus.encode(config, PreTrainedConfig)
    return {key: value for key, value in encoded.items() if key not in WHERE_IT_RUNS_OR_GOES}


def name_subgoals(config: PreTrainedConfig, cache: FrameCache) -> None:
    """Complete the configuration of a policy that imagines sub-goals with those of its data set, in place.

    Raises UserError if the data set has none, or others than the policy was trained with before.
    """
    if not isinstance(config, LatentVLAConfig) or not config.imagine_subgoals:
        return
    found = cache.subgoals.tolist()
    if not found:
        raise UserError(
            f"--policy.imagine_subgoals=true: {cache.root} has no sub-goals: expected some of style "
            "`subtask` in its column language_persistent"
        )
    if config.subgoals not in ([], found):
        raise UserError(f"--policy.subgoals={config.subgoals}: expected those of {cache.root}: {found}")
    config.subgoals = found


def policy_trainable(
    config: PreTrainedConfig,
    metadata: LeRobotDatasetMetadata,
    env: EnvConfig | None = None,
    *,
    resumes: bool = False,
) -> Trainable:
    """Build the policy of `config` for a data set, and for evaluation in `env` if one is given.

    metadata: of what is loaded, as `seen_metadata` gives it. `config` is completed in place, as LeRobot does:
    its inputs are the features of `metadata`, unless it names its own. resumes: weights will be loaded, so
    that it need not start from a world model. Raises UserError if a package it needs is not installed, if it
    cannot use such data, if the environment cannot run it, or if it cannot start from the world model;
    ValueError if statistics are missing.
    """
    start: dict[str, Any] = {}
    if isinstance(config, LatentVLAConfig) and config.world_model_path is not None:
        start["world_model_path"], config.world_model_path = str(config.world_model_path), None
    renamed = _choose_inputs(config, metadata)
    try:
        policy = make_policy(config, ds_meta=metadata, rename_map=renamed)
    except UserError:
        raise
    except (ImportError, OSError, ValueError) as error:  # lacks a package or a VLM, or refuses such data
        raise UserError(f"--policy.type={config.type}: {first_line(error)}") from error
    if start and not resumes:
        start_from_world_model(policy, load_world_model(Path(start["world_model_path"]), "cpu"))
    statistics: Any = checked_statistics(config, metadata.stats or {})  # arrays, though LeRobot says tensors
    preprocessor, postprocessor = make_pre_post_processors(
        config, dataset_stats=statistics, dataset_meta=metadata
    )
    for step in rename_steps(preprocessor):
        step.rename_map = {**step.rename_map, **renamed}

    window, stride, decisions = 0, 1, 0
    if isinstance(config, LatentVLAConfig):
        window, stride, decisions = config.memory_window, config.n_action_steps, config.memory_decisions

    def save(folder: Path) -> None:
        policy.save_pretrained(folder)
        preprocessor.save_pretrained(folder)
        postprocessor.save_pretrained(folder)

    evaluate: Callable[[int, int], EpisodeRows] | None = None
    if env is not None:
        # Fails before training rather than at the first evaluation.
        check_fits(config, require_simulated(env), preprocessor)
        evaluate = _evaluator(policy, preprocessor, postprocessor, env)

    return Trainable(
        module=policy,
        preprocess=preprocessor,
        save=save,
        delta_indices=delta_indices_of(config, metadata.features),
        episode_window=window,
        episode_stride=stride,
        episode_decisions=decisions,
        parameter_groups=parameter_groups_of(policy),
        identity=network_identity(config) | start,
        specification=specification(config.input_features or {}, config.output_features or {}, metadata),
        after_step=_after_step(policy),
        evaluate=evaluate,
    )


def _choose_inputs(config: PreTrainedConfig, metadata: LeRobotDatasetMetadata) -> dict[str, str]:
    """Complete the inputs of `config`, in place; returns names of the data set -> names the policy knows.

    Raises UserError if the policy cannot learn from such data.
    """
    does_without = isinstance(config, LatentVLAConfig)  # success tells as well
    if config.reward_delta_indices is not None and not does_without and REWARD not in metadata.features:
        raise UserError(
            f"--policy.type={config.type}: learns from rewards: expected a data set with {REWARD}"
        )
    if config.input_features:
        return {}
    described = dataset_to_policy_features(metadata.features)
    inputs = {key: feature for key, feature in described.items() if feature.type is not FeatureType.ACTION}
    renamed: dict[str, str] = {}
    if config.type in SEES_ONE_PICTURE:
        pictures = [key for key, feature in inputs.items() if feature.type is FeatureType.VISUAL]
        if len(pictures) != 1:
            raise UserError(
                f"--policy.type={config.type}: sees one picture, not {len(pictures)} "
                f"({', '.join(pictures)}): expected one of them, such as --dataset.cameras=corner"
            )
        renamed = {pictures[0]: OBS_IMAGE}
    config.input_features = {renamed.get(key, key): feature for key, feature in inputs.items()}
    return renamed


def _evaluator(
    policy: PreTrainedPolicy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    env: EnvConfig,
) -> Callable[[int, int], EpisodeRows]:
    def evaluate(episodes: int, seed: int) -> EpisodeRows:
        return evaluate_policy(policy, preprocessor, postprocessor, env, episodes=episodes, seed=seed)

    return evaluate


def _after_step(policy: nn.Module) -> Callable[[], None] | None:
    """LeRobot's unwritten hook: a policy class may define `update()`, called after each optimizer step."""
    return getattr(policy, "update", None)
