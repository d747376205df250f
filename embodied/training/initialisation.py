"""A fresh policy starts from a world model that was trained alone, with its eyes and its foresight."""

import logging
from typing import Any

from torch import nn

from embodied.errors import UserError
from embodied.evaluation.world_model_loading import LoadedWorldModel
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from world_models.config import JEPAConfig
from world_models.encoders import VisualEncoder
from world_models.from_pixels import JEPA

logger = logging.getLogger(__name__)


def start_from_world_model(policy: nn.Module, world: LoadedWorldModel) -> None:
    """Copy image tower and queries, and the dynamics if the policy has one of the same shapes.

    Dynamics of another depth, history or chunk length, or without actions, stay as they are, and a log line
    says so.

    Raises:
        UserError: the world model is one of other cameras, another action or another latent shape, or the
            policy sees with a VLM.
    """
    assert isinstance(policy, LatentVLAPolicy)
    if not isinstance(policy.encoder, VisualEncoder):
        raise UserError(
            f"--policy.backbone={policy.config.backbone}: expected scratch with --policy.world_model_path, "
            f"as the image tower of {world.folder} is no VLM's"
        )
    if not isinstance(world.model, JEPA):
        raise UserError(f"--policy.world_model_path: {world.folder} holds no jepa, whose image tower is ours")
    _require_equal(policy, world, world.model.config)
    policy.encoder.load_state_dict(world.model.encoder.state_dict())
    if policy.foresight is None:
        return
    own, given = policy.foresight.model.dynamics, world.model.model.dynamics
    if _shapes(own) == _shapes(given) and world.features.action_dim:
        own.load_state_dict(given.state_dict())
    else:
        logger.info("%s: its dynamics differ from the policy's, which start afresh", world.folder)


def _require_equal(policy: LatentVLAPolicy, world: LoadedWorldModel, theirs: JEPAConfig) -> None:
    config = policy.config
    compared: dict[str, tuple[Any, Any]] = {
        "cameras": (world.features.cameras, list(config.image_features)),
        "image tower": (theirs.tower, config.tower),
        "latents": (
            f"{theirs.num_latents}x{theirs.dim} with {theirs.latent_heads} heads",
            f"{config.num_latents}x{config.dim} with {config.latent_heads} heads",
        ),
    }
    if world.features.action_dim:  # none was known to one that learnt from films
        compared["action size"] = (world.features.action_dim, config.action_size)
    for name, (found, wanted) in compared.items():
        if found != wanted:
            raise UserError(
                f"--policy.world_model_path: {world.folder} has {name} {_text(found)}: expected the policy's "
                f"{_text(wanted)}"
            )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
