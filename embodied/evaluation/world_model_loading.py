"""World models from checkpoint folders of `embodied train --model.type=jepa`, ready to see and to predict.

    world = load_world_model(Path("runs/jepa"))
    z = world.see({"observation.images.corner": picture, ...})          # (B, K, D)
    chunks = world.normalise_actions(actions)                           # (B, N, h, A), own units -> model's
    future = world.model.rollout(z[:, None], chunks)                    # (B, N, K, D), history of one moment
    goal = world.goal(["push the block"])                               # (B, G)
    world.model.outcomes(future[:, -1], goal).value                     # (B,)
    world.actions(chunks[:, 0])                                         # (B, h, A), back in their own units

B batch, T history moments, V cameras, K latent tokens, D width, N chunks of h environment steps, A action
size, G width of a goal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import torch
from draccus.utils import DraccusException
from lerobot.processor import PolicyAction, PolicyProcessorPipeline
from lerobot.processor.converters import (
    batch_to_transition,
    policy_action_to_transition,
    transition_to_batch,
    transition_to_policy_action,
)
from lerobot.utils.constants import (
    ACTION,
    OBS_LANGUAGE_ATTENTION_MASK,
    OBS_LANGUAGE_TOKENS,
    OBS_PREFIX,
)
from safetensors.torch import load_model
from torch import Tensor

from embodied.data.dataset import first_line
from embodied.errors import UserError
from embodied.evaluation.policy_loading import PROCESSORS, usable_device
from embodied.manifest import read_json
from embodied.training.checkpoint import load_checkpoint_folder
from embodied.training.trainable import Batch
from embodied.training.world_models import WorldModelFeatures, cut_clip
from world_models.config import Sizes
from world_models.encoders import stack_cameras
from world_models.from_pixels import JEPA, Clip
from world_models.kinds import KINDS
from world_models.lewm import LeWorldModel

FILES = ("config.json", "model.safetensors", *PROCESSORS)

NO_OBSERVATION: dict[str, Any] = {f"{OBS_PREFIX}nothing": None}
"""LeRobot's steps refuse a batch without any observation, even where they have nothing to do with it."""


@dataclass(frozen=True, kw_only=True)
class LoadedWorldModel:
    """A world model in evaluation mode, its weights fixed, and all that lies between it and the data's units.

    model: `encode`, `step`, `rollout`, `outcomes`, and `config` with history T, chunk_steps h, num_latents K
    and dim D; all in normalised units. features: cameras in the model's order, picture size, sizes of action
    and state. preprocessor, postprocessor: LeRobot's, saved with it. device: where everything lives.
    """

    folder: Path
    model: JEPA | LeWorldModel
    features: WorldModelFeatures
    preprocessor: PolicyProcessorPipeline[dict[str, Any], dict[str, Any]]
    postprocessor: PolicyProcessorPipeline[PolicyAction, PolicyAction]
    device: str

    @torch.no_grad()
    def see(self, pictures: Mapping[str, Tensor]) -> Tensor:
        """Latents of scenes. pictures: per camera (..., 3, H, W) in [0, 1]. Returns (..., K, D).

        Raises:
            UserError: a camera is missing, or a picture is of another size than in training.
        """
        height, width = self.features.image_size
        for camera in self.features.cameras:
            if camera not in pictures:
                raise UserError(f"cameras {', '.join(pictures) or 'none'}: expected {camera} as well")
            found = tuple(pictures[camera].shape[-2:])
            if found != (height, width):
                raise UserError(
                    f"{camera}: a picture of {found[0]}x{found[1]}: expected {height}x{width}, as in training"
                )
        images = stack_cameras([pictures[camera] for camera in self.features.cameras])
        return self.model.encode(images.to(self.device))

    @torch.no_grad()
    def goal(self, instructions: Sequence[str]) -> Tensor:
        """The vectors (B, G) that `model.outcomes` takes; an instruction of zeros for no text at all."""
        batch = self.preprocessor({"task": list(instructions), **NO_OBSERVATION})
        return self.model.goal(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK].bool())

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) in their own units as the model takes them, on its device."""
        return self.preprocessor({ACTION: actions, "task": "", **NO_OBSERVATION})[ACTION]

    def actions(self, normalised: Tensor) -> Tensor:
        """Normalised actions (..., A) in their own units, on the CPU."""
        return self.postprocessor(normalised)

    def clip(self, batch: Batch) -> Clip:
        """A clip from a batch of windows of a data set, pictures in [0, 1], as in training.

        The windows are those of `features.delta_indices(model.config, cache.features)`.
        """
        return cut_clip(self.preprocessor(batch), self.model.config, self.features)


def load_world_model(path: Path, device: str | None = None) -> LoadedWorldModel:
    """Load a world model that was trained on its own.

    path: a checkpoint folder or a run's output folder; device: where it runs, the best one present if None.
    Every file is checked against the manifest. Raises UserError for a folder, a configuration or weights that
    cannot be used.
    """
    folder = load_checkpoint_folder(path)
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: has no {name}: expected a complete checkpoint")
    device = usable_device(device)
    described = read_json(folder / "config.json")
    if described.get("type") not in KINDS:
        raise UserError(
            f"{folder}: holds a {described.get('type')}: expected a world model, as "
            f"`embodied train --model.type={'|'.join(KINDS)}` writes it"
        )
    kind = KINDS[described["type"]]
    try:
        network: Any = draccus.decode(kind.config, described["network"])
        model = kind.network(network, draccus.decode(Sizes, described["sizes"]))
        features = draccus.decode(WorldModelFeatures, described["features"])
    except (DraccusException, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {first_line(error)}") from error
    try:
        load_model(model, folder / "model.safetensors")
    except RuntimeError as error:
        raise UserError(f"{folder}: weights and configuration do not fit: {first_line(error)}") from error
    before, after = PROCESSORS
    return LoadedWorldModel(
        folder=folder,
        model=model.eval().requires_grad_(False).to(device),
        features=features,
        preprocessor=PolicyProcessorPipeline.from_pretrained(
            folder,
            before,
            overrides={"device_processor": {"device": device}},
            to_transition=batch_to_transition,
            to_output=transition_to_batch,
        ),
        postprocessor=PolicyProcessorPipeline.from_pretrained(
            folder, after, to_transition=policy_action_to_transition, to_output=transition_to_policy_action
        ),
        device=device,
    )
