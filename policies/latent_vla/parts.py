"""Which parts a configuration asks for, and how fast they learn."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lerobot.utils.constants import OBS_STATE
from torch import nn

from policies.latent_vla.action_head import ActionHead, ActionTransformer, make_action_head
from policies.latent_vla.backbone import Backbone, ScratchBackbone
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.foresight import Foresight
from policies.latent_vla.grounding import GoingOn, Grounding
from policies.latent_vla.guidance import Guidance
from policies.latent_vla.imagination import Imagination
from policies.latent_vla.lora import add_lora
from policies.latent_vla.memory import EpisodeMemory
from policies.latent_vla.pretrained import PretrainedBackbone, VLMEncoder
from policies.latent_vla.subgoals import chains
from policies.latent_vla.vlm import build_vlm, describe_vlm
from policies.latent_vla.waypoint import StateToken, Waypoint, deviation_of
from world_models.encoders import SceneEncoder, VisualEncoder


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What reads a scene, and the configuration that builds it again without anything else at hand."""

    encoder: SceneEncoder
    backbone: Backbone
    config: LatentVLAConfig


def scratch_parts(config: LatentVLAConfig) -> Parts:
    """An image tower and a small language model, untrained."""
    encoder = VisualEncoder(
        config.tower,
        cameras=len(config.image_features),
        tokens=config.num_latents,
        heads=config.latent_heads,
        dim=config.dim,
    )
    backbone = ScratchBackbone(
        dim=config.dim,
        depth=config.depth,
        heads=config.heads,
        max_instruction_bytes=config.max_instruction_bytes,
    )
    return Parts(encoder=encoder, backbone=backbone, config=config)


def pretrained_parts(config: LatentVLAConfig) -> Parts:
    """A pretrained VLM's tower and language model, frozen, adapted or trained.

    The given configuration stays as it is, so that building from it again reads the VLM again; only the
    returned one, which checkpoints hold, describes the VLM and builds without it.
    """
    described, weights_of = config.vlm_config, None
    if not described:
        camera = next(iter(config.image_features.values())).shape
        described = describe_vlm(
            config.vlm,
            layers=config.vlm_layers,
            camera=(camera[1], camera[2]),
            image_size=config.vlm_image_size,
        )
        config, weights_of = copy.copy(config), config.vlm
        config.vlm_config = described
    vlm = build_vlm(described, weights_of)
    for part in (vlm.tower, vlm.language):
        part.requires_grad_(not config.freeze_vlm)
    if config.lora_rank:
        add_lora(vlm.language, rank=config.lora_rank, alpha=2 * config.lora_rank)
    encoder = VLMEncoder(
        vlm.tower,
        described,
        cameras=len(config.image_features),
        tokens=config.num_latents,
        heads=config.latent_heads,
        dim=config.dim,
    )
    return Parts(encoder=encoder, backbone=PretrainedBackbone(vlm, dim=config.dim), config=config)


MAKERS: dict[str, Callable[[LatentVLAConfig], Parts]] = {
    "scratch": scratch_parts,
    "pretrained": pretrained_parts,
}
"""By the configuration's `backbone`."""


def head_part(config: LatentVLAConfig, backbone: Backbone) -> ActionHead:
    """The action head that reads the backbone's states."""
    network = ActionTransformer(
        horizon=config.chunk_size,
        action_dim=config.action_size,
        tokens=config.action_tokens,
        dim=config.head_dim,
        depth=config.head_depth,
        heads=config.head_heads,
        context_dim=backbone.width,
        context_layers=backbone.num_states,
    )
    return make_action_head(
        config.action_head,
        network,
        samples=config.flow_samples,
        steps=config.euler_steps,
        continuation=config.continuation,
    )


def imagination_part(config: LatentVLAConfig, parts: Parts, statistics: Any) -> Imagination | None:
    """What imagines from the backbone's hidden states, None where nothing is imagined.

    statistics: of the data set, only in training.
    """
    if config.imagination == "none":
        return None
    grounding, sentences, chained, tokens = None, config.subgoals, [], config.num_latents
    if config.chain_of_thought:
        sentences, chained = chains(config.subgoals, config.imagined_steps)
    if config.imagination == "grounded":
        grounding = Grounding(
            sentences,
            tokens=tokens,
            waypoint=_waypoint(config, statistics),
            going_on=GoingOn(tokens=tokens, dim=config.dim) if chained else None,
            **_queries(config, parts),
        )
    return Imagination(
        steps=config.imagined_steps,
        tokens=tokens if grounding is None else grounding.tokens,
        dim=config.dim,
        width=parts.backbone.width,
        inert=config.imagination == "inert",
        subgoals=sentences if config.imagine_subgoals else (),
        chains=chained,
        order=config.block_order,
        grounding=grounding,
    )


def guidance_part(config: LatentVLAConfig, parts: Parts) -> Guidance | None:
    """What points the guided latents to what the instruction names, None where there are none."""
    if not config.guided_latents:
        return None
    return Guidance(
        vocabulary=parts.backbone.vocabulary, tokens=config.guided_latents, **_queries(config, parts)
    )


def _queries(config: LatentVLAConfig, parts: Parts) -> dict[str, int]:
    """What a guidance has to know of the queries that it changes."""
    return {
        "cameras": len(config.image_features),
        "heads": config.latent_heads,
        "channels": parts.encoder.queries.channels,
    }


def state_part(config: LatentVLAConfig, statistics: Any) -> StateToken:
    """What tells the backbone of the robot's state; statistics: of the data set, only in training."""
    waypoint = _waypoint(config, statistics) if config.imagination != "grounded" else None
    return StateToken(config.state_size, config.dim, waypoint)


def _waypoint(config: LatentVLAConfig, statistics: Any) -> Waypoint | None:
    if not config.waypoint_loss_weight:
        return None
    scale = deviation_of(statistics, OBS_STATE, config.state_size)
    return Waypoint(
        tokens=config.num_latents, dim=config.dim, scale=scale, weight=config.waypoint_loss_weight
    )


def foresight_part(config: LatentVLAConfig, parts: Parts, statistics: Any) -> Foresight | None:
    """The world model, None where there is none; statistics: as for `imagination_part`."""
    if not config.world_model:
        return None
    return Foresight(config, statistics or {}, goal_dim=parts.backbone.width)


def memory_part(config: LatentVLAConfig) -> EpisodeMemory | None:
    """The memory over an episode, None where there is none."""
    if not config.memory_tokens:
        return None
    return EpisodeMemory(
        capacity=config.memory_tokens,
        window=config.memory_window,
        decided=config.memory_decisions,
        dim=config.dim,
        heads=config.latent_heads,
    )


def optimizer_groups(policy: nn.Module, vlm_lr: float) -> list[dict[str, Any]]:
    """All that trains: what is new, at the optimizer's own rate, and what is of a VLM at `vlm_lr`."""
    of_vlm, new = [], []
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            (of_vlm if ".vlm." in name else new).append(parameter)
    return [{"params": new}, *([{"params": of_vlm, "lr": vlm_lr}] if of_vlm else [])]
