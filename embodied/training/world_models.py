"""A world model on its own as something to train: `embodied train --model.type=jepa`.

LeRobot's processors normalise and tokenize as they do for policies and are saved with the checkpoint; a
`Clip` is then cut out of the batch. B batch, T history moments, N rollout steps, V cameras, h environment
steps of a chunk, A action size.
"""

import dataclasses
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import draccus
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import (
    ACTION,
    OBS_LANGUAGE_ATTENTION_MASK,
    OBS_LANGUAGE_TOKENS,
    OBS_STATE,
    REWARD,
)
from lerobot.utils.feature_utils import dataset_to_policy_features
from safetensors.torch import save_model

from embodied.config import ModelConfig
from embodied.data.windows import delta_indices_of
from embodied.evaluation.policy_loading import usable_device
from embodied.manifest import write_json
from embodied.training.provenance import specification
from embodied.training.trainable import Batch, Trainable
from policies.latent_vla.normalization import NORMALIZATION
from policies.latent_vla.processor_latent_vla import checked_statistics, make_processors
from policies.latent_vla.tokenizer import VOCABULARY, ByteTokenizerStep
from policies.latent_vla.trajectories import future_outcomes, reward_scale
from world_models.config import ClipConfig, JEPAConfig, LeWMConfig, Sizes
from world_models.encoders import stack_cameras
from world_models.from_pixels import JEPA, Clip
from world_models.kinds import KINDS
from world_models.lewm import LeWorldModel
from world_models.teacher import FrozenTeacher


@ModelConfig.register_subclass("jepa")
@dataclass(frozen=True, kw_only=True)
class JEPAModelConfig(ModelConfig, JEPAConfig):
    """Flags of a world model: those of every model, and the network's own."""


@ModelConfig.register_subclass("lewm")
@dataclass(frozen=True, kw_only=True)
class LeWMModelConfig(ModelConfig, LeWMConfig):
    """Flags of LeWorldModel: those of every model, and the network's own."""


for _config in (JEPAModelConfig, LeWMModelConfig):  # what --help shows above the flags
    _config.__doc__ = "\n\n".join(
        inspect.cleandoc(part.__doc__ or "") for part in (ModelConfig, ClipConfig, _config.__bases__[1])
    )


@dataclass(frozen=True, kw_only=True)
class WorldModelFeatures:
    """What goes into a world model and how it is normalised: as for policies.

    cameras: keys in a batch, in the model's order, which a JSON object does not keep; output_features: the
    action, or nothing; reward_scale: as `trajectories.reward_scale` gives it.
    """

    cameras: list[str]
    input_features: dict[str, PolicyFeature]
    output_features: dict[str, PolicyFeature]
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=NORMALIZATION.copy)
    reward_scale: tuple[float, float] = (0.0, 1.0)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every camera's pictures."""
        height, width = self.input_features[self.cameras[0]].shape[1:]
        return height, width

    @property
    def action_dim(self) -> int:
        """A, 0 if no action is known."""
        return self.output_features[ACTION].shape[0] if ACTION in self.output_features else 0

    @property
    def state_dim(self) -> int:
        """S, 0 if there is no proprioception."""
        return self.input_features[OBS_STATE].shape[0] if OBS_STATE in self.input_features else 0

    def delta_indices(self, config: ClipConfig, available: Iterable[str]) -> dict[str, list[int]]:
        """Window of each key that a clip is cut from, of those that a data set has, in environment steps."""
        used = {*self.input_features, *self.output_features, REWARD}
        return delta_indices_of(config, [key for key in available if key in used])


def features_of(metadata: LeRobotDatasetMetadata, *, actions: bool) -> WorldModelFeatures:
    """Cameras, proprioception and, if `actions`, the action of a data set, as far as it has them.

    Raises:
        ValueError: there is no camera, or they differ in size.
    """
    described = dataset_to_policy_features(metadata.features)
    inputs = {
        key: feature
        for key, feature in described.items()
        if feature.type is FeatureType.VISUAL or key == OBS_STATE
    }
    shapes = {key: tuple(item.shape) for key, item in inputs.items() if item.type is FeatureType.VISUAL}
    if not shapes or len(set(shapes.values())) != 1:
        raise ValueError(f"cameras {shapes or 'none'}: expected at least one, all of one size")
    outputs = {ACTION: described[ACTION]} if actions and ACTION in described else {}
    return WorldModelFeatures(
        cameras=list(shapes),
        input_features=inputs,
        output_features=outputs,
        reward_scale=reward_scale(metadata.stats or {}),
    )


def world_model_trainable(config: ModelConfig, metadata: LeRobotDatasetMetadata) -> Trainable:
    """Build the world model of `config` for a data set.

    metadata: of what is loaded, as `seen_metadata` gives it. Raises ValueError for cameras that differ in
    size and for statistics that are missing.
    """
    name = config.get_choice_name(type(config))
    kind = KINDS[name]
    network: Any = kind.config(**{item.name: getattr(config, item.name) for item in fields(kind.config)})
    device = usable_device(config.device, "--model.device")
    features = features_of(metadata, actions=config.actions)
    teacher = None
    if isinstance(config, JEPAModelConfig) and config.teacher != "none":
        teacher = FrozenTeacher(config.teacher, pretrained=config.teacher_pretrained, device=device)
    sizes = Sizes(
        cameras=len(features.cameras),
        action_dim=features.action_dim,
        state_dim=features.state_dim,
        vocabulary=VOCABULARY,
        teacher_dim=teacher.dim if teacher else 0,
    )
    model = kind.network(network, sizes).to(device)
    all_statistics: Any = metadata.stats or {}  # arrays, though LeRobot says tensors
    statistics = checked_statistics(features, all_statistics)
    preprocessor, postprocessor = make_processors(
        features,
        statistics,
        device=device,
        tokenizer=ByteTokenizerStep(max_length=network.max_instruction_bytes),
    )

    def save(folder: Path) -> None:
        save_model(model, str(folder / "model.safetensors"))
        write_json(folder / "config.json", description(name, model, features))
        preprocessor.save_pretrained(folder)
        postprocessor.save_pretrained(folder)

    def preprocess(batch: Batch) -> Clip:
        clip = cut_clip(preprocessor(batch), model.config, features)
        return clip if teacher is None else dataclasses.replace(clip, teacher=teacher.features(clip.images))

    encoded = draccus.encode(config, ModelConfig)
    return Trainable(
        module=model,
        preprocess=preprocess,
        save=save,
        delta_indices=features.delta_indices(network, metadata.features),
        parameter_groups=[{"params": model.parameters()}],
        identity={key: value for key, value in encoded.items() if key != "device"},
        specification=specification(features.input_features, features.output_features, metadata),
    )


def description(name: str, model: JEPA | LeWorldModel, features: WorldModelFeatures) -> dict[str, Any]:
    """A checkpoint's `config.json`, from which the network is built again; name: of its kind."""
    return {
        "type": name,
        "network": dataclasses.asdict(model.config),
        "sizes": dataclasses.asdict(model.sizes),
        "features": draccus.encode(features),
    }


def cut_clip(batch: Batch, config: ClipConfig, features: WorldModelFeatures) -> Clip:
    """A clip, without a teacher, from a normalised batch of windows (those of `features.delta_indices`)."""
    images = stack_cameras([batch[key] for key in features.cameras])
    history, steps, chunk_steps = config.history, config.rollout_steps, config.chunk_steps
    size, moments = len(images), history + steps
    # A data set without proprioception has a state of no numbers, one without actions actions of none.
    state = images.new_zeros(size, moments, 0)
    if features.state_dim:
        state = batch[OBS_STATE].reshape(size, images.shape[1], -1)[:, :moments]
    chunks = images.new_zeros(size, steps, chunk_steps, 0)
    if features.action_dim:
        chunks = batch[ACTION].reshape(size, steps, chunk_steps, -1)
    scale = torch.tensor(features.reward_scale, device=images.device)
    outcomes = future_outcomes({**batch, OBS_STATE: state}, history, chunk_steps, scale)
    return Clip(
        images=images[:, :moments],
        chunks=chunks,
        is_pad=batch[f"{features.cameras[0]}_is_pad"][:, history:moments],
        instruction=(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK].bool()),
        outcomes=outcomes if features.state_dim else dataclasses.replace(outcomes, state=None),
        ending=images[:, -1] if config.sees_ending else None,
        is_step_pad=batch[f"{ACTION}_is_pad"].reshape(size, steps, -1) if config.sees_ending else None,
    )
