"""Trained policies from checkpoint folders, ours or LeRobot's, and whether they fit an environment."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import draccus
import torch
from draccus.utils import DraccusException
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.utils import env_to_policy_features
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline, RenameObservationsProcessorStep
from lerobot.utils.constants import POLICY_POSTPROCESSOR_DEFAULT_NAME, POLICY_PREPROCESSOR_DEFAULT_NAME
from lerobot.utils.device_utils import is_torch_device_available

import embodied.lerobot_plugin  # noqa: F401  (registers our policies)
from embodied.data.dataset import first_line
from embodied.errors import UserError
from embodied.lerobot_plugin import SimulatedEnvConfig
from embodied.manifest import read_json
from embodied.training.checkpoint import load_checkpoint_folder
from policies.latent_mpc import LatentMPCConfig

FIXED_BY_TRAINING = (
    "input_features",
    "memory_decisions",
    "memory_tokens",
    "memory_window",
    "normalization_mapping",
    "output_features",
    "reactive_half",
    "relative_actions",
    "relative_exclude_joints",
    "vlm",
    "vlm_config",
    "vlm_image_size",
    "vlm_layers",
    "world_model",
    "world_model_path",
)
"""Fields that the saved processors or weights answer for: changed here, they would do nothing, or harm."""

LoadedPolicy = tuple[PreTrainedPolicy, PolicyProcessorPipeline, PolicyProcessorPipeline]
PROCESSORS = (f"{POLICY_PREPROCESSOR_DEFAULT_NAME}.json", f"{POLICY_POSTPROCESSOR_DEFAULT_NAME}.json")


def load_policy(path: Path, device: str | None = None, overrides: list[str] | None = None) -> LoadedPolicy:
    """Load a policy, in evaluation mode, with its pre- and post-processor.

    path: a checkpoint folder or a run's output folder; device: where it runs, the best one present if None;
    overrides: flags of the policy's own configuration, such as `--n_action_steps=4`. Every file is checked
    against the manifest. Raises UserError for a folder, a configuration or weights that cannot be used.
    """
    folder = _complete_checkpoint(path)
    config = _load_config(folder, [*(overrides or []), f"--device={usable_device(device)}"])
    config.pretrained_path = folder
    try:
        policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    except (ImportError, OSError) as error:  # a part of LeRobot or a VLM's folder is not there
        raise UserError(f"{folder}: {first_line(error)}") from error
    except RuntimeError as error:
        raise UserError(f"{folder}: weights and configuration do not fit: {first_line(error)}") from error
    preprocessor, postprocessor = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={"device_processor": {"device": config.device}},
    )
    return policy, preprocessor, postprocessor


def load_planner(path: Path, device: str | None = None, overrides: list[str] | None = None) -> LoadedPolicy:
    """Make a `latent_mpc` policy over the world model of a checkpoint; arguments as for `load_policy`.

    Its processors are the checkpoint's own. Raises UserError for a folder or a flag that cannot be used,
    ValueError for a checkpoint without a world model that fits.
    """
    folder = _complete_checkpoint(path)
    arguments = [*(overrides or []), f"--device={usable_device(device)}", f"--world_model_path={folder}"]
    _check_overrides([item.name for item in fields(LatentMPCConfig)], overrides or [])
    try:
        config = draccus.parse(LatentMPCConfig, args=arguments)
    except (DraccusException, TypeError, ValueError) as error:
        raise UserError(f"{' '.join(arguments)}: {_detail(error)}") from error
    policy = get_policy_class(config.type)(config).to(config.device).eval()
    preprocessor, postprocessor = make_pre_post_processors(config)
    return policy, preprocessor, postprocessor


def _complete_checkpoint(path: Path) -> Path:
    """The checkpoint folder that `path` means, verified; UserError naming a file that it lacks."""
    folder = load_checkpoint_folder(path)
    for name in ("config.json", "model.safetensors", *PROCESSORS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: has no {name}: expected a complete checkpoint")
    return folder


def usable_device(device: str | None, flag: str = "--device") -> str:
    """`device`, or the best one present if None; UserError naming `flag` if this machine does not have it."""
    if device is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    try:
        available = is_torch_device_available(device)
    except (RuntimeError, ValueError):
        available = False
    if not available:
        raise UserError(f"{flag}={device}: expected a device that this machine has, such as cpu")
    return device


def _load_config(folder: Path, overrides: list[str]) -> Any:
    kind = read_json(folder / "config.json").get("type")
    if kind is not None and kind not in PreTrainedConfig.get_known_choices():
        raise UserError(f"{folder}: holds a {kind}: expected a policy")
    _check_overrides([item.name for item in fields(_read_config(folder, []))], overrides)
    return _read_config(folder, overrides)


def _check_overrides(names: list[str], overrides: list[str]) -> None:
    """Raise UserError naming the first flag that is no field, or is fixed by training."""
    for override in overrides:
        name = override.removeprefix("--").partition("=")[0]
        if name.partition(".")[0] not in names:
            raise UserError(f"--policy.{name}: expected one of {', '.join(sorted(names))}")
        if name.partition(".")[0] in FIXED_BY_TRAINING:
            raise UserError(f"--policy.{name}: is fixed by training, expected no such flag here")


def _read_config(folder: Path, overrides: list[str]) -> Any:
    try:
        return PreTrainedConfig.from_pretrained(folder, cli_overrides=overrides)
    except (DraccusException, TypeError, ValueError) as error:
        raise UserError(f"{' '.join([str(folder / 'config.json'), *overrides])}: {_detail(error)}") from error


def _detail(error: Exception) -> str:
    """What is wrong, in one line: draccus says that a class was refused, and its cause says why."""
    reason = error.__cause__ if isinstance(error.__cause__, ValueError) else error
    return str(reason).strip().split("\n")[0]


def rename_steps(preprocessor: PolicyProcessorPipeline) -> list[Any]:
    """The steps, LeRobot's, that give observations the names a policy knows, by their `rename_map`."""
    return [step for step in preprocessor.steps if isinstance(step, RenameObservationsProcessorStep)]


def check_fits(
    config: PreTrainedConfig, env: SimulatedEnvConfig, preprocessor: PolicyProcessorPipeline | None = None
) -> None:
    """Raise UserError naming the first input or action of the policy that the environment does not have.

    preprocessor: the policy's, which may give the environment's features the names that the policy knows.
    """
    check_features(features_wanted(config, preprocessor), env)


def features_wanted(
    config: PreTrainedConfig, preprocessor: PolicyProcessorPipeline | None = None
) -> dict[str, PolicyFeature]:
    """Inputs and actions of a policy, by the names that its preprocessor takes."""
    steps = [] if preprocessor is None else rename_steps(preprocessor)
    shown = {seen: name for step in steps for name, seen in step.rename_map.items()}
    wanted = {**(config.input_features or {}), **(config.output_features or {})}
    return {shown.get(name, name): feature for name, feature in wanted.items()}


def check_features(wanted: Mapping[str, PolicyFeature], env: SimulatedEnvConfig) -> None:
    """Raise UserError naming the first feature that the environment does not have, or in another shape."""
    hint = ", set --env.width and --env.height"
    check_offered(wanted, env_to_policy_features(env), "the environment", hint)


def check_offered(
    wanted: Mapping[str, PolicyFeature], offered: Mapping[str, PolicyFeature], whose: str, hint: str = ""
) -> None:
    """Raise UserError naming the first feature that is not offered, or in another shape.

    whose: who offers; hint: what to do about a picture's shape.
    """
    for name, feature in wanted.items():
        if name not in offered:
            present = ", ".join(sorted(offered))
            raise UserError(f"policy feature {name}: expected one of {whose}'s features, {present}")
        if tuple(feature.shape) != tuple(offered[name].shape):
            advice = hint if feature.type is FeatureType.VISUAL else ""
            sizes = f"{_shape(feature)}: expected {whose}'s {_shape(offered[name])}"
            raise UserError(f"policy feature {name} is {sizes}{advice}")


def _shape(feature: PolicyFeature) -> str:
    return "x".join(str(size) for size in feature.shape)
