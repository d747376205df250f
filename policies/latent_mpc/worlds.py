"""World models that a planner can use, behind one interface, out of the checkpoints that hold them.

A kind of checkpoint is one entry of `WORLDS`; more kinds are added there.

B batch, T history moments, V cameras, N chunks or imagined scenes, K latent tokens, D width, h environment
steps of a chunk, A action size, S state size, G width of the goal's description.
"""

import abc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import draccus
import torch
from draccus.utils import DraccusException
from lerobot.configs.types import PolicyFeature
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from safetensors.torch import load_model
from torch import Tensor, nn

from policies.latent_mpc.configuration_latent_mpc import WorldSpecification
from policies.latent_vla.backbone import Context
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from world_models.config import Sizes
from world_models.from_pixels import JEPA
from world_models.kinds import KINDS
from world_models.lewm import LeWorldModel
from world_models.outcomes import Outcomes


class World(nn.Module, abc.ABC):
    """A world model, and the encoder and the words that go with it: implements `WorldModel`."""

    specification: WorldSpecification

    @abc.abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """images: (B, V, 3, H, W) in [0, 1]. Returns (B, K, D)."""

    @abc.abstractmethod
    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A), normalised absolute actions. Returns (B, N, K, D)."""

    @abc.abstractmethod
    def outcomes(self, latents: Tensor, description: Tensor) -> Outcomes:
        """latents: (B, K, D); description: (B, G), as `describe` gives it."""

    @abc.abstractmethod
    def describe(self, batch: dict[str, Tensor]) -> Tensor:
        """The instruction as the outcome heads take it, (B, G)."""

    @abc.abstractmethod
    def inverse(self, latents: Tensor, goal: Tensor) -> Tensor:
        """The chunk (B, h, A) that leads towards a goal; latents, goal: (B, K, D).

        Only where the specification says that it inverts.
        """

    @abc.abstractmethod
    def imagine(self, batch: dict[str, Tensor], latents: Tensor, states: Tensor) -> Tensor:
        """Scenes that follow the instruction, a chunk apart: (B, N, K, D).

        latents: (B, T, K, D); states: (B, T, S). Only where the specification says that it imagines.
        """


class LatentVLAWorld(World):
    """The world model inside a `latent_vla`, with all of it but the action head."""

    def __init__(self, policy: LatentVLAPolicy) -> None:
        super().__init__()
        if policy.foresight is None:
            raise ValueError(
                "a latent_vla without a world model: expected one trained with --policy.world_model=true"
            )
        config = policy.config
        if config.proprioceptive_latents:
            raise ValueError(
                "a latent_vla with proprioceptive_latents=true, whose goals need a state: "
                "expected one without"
            )
        self.encoder, self.backbone, self.foresight = policy.encoder, policy.backbone, policy.foresight
        # What a policy with a memory imagines depends on it, and only that policy keeps it.
        imagines = config.imagination == "latent" and not config.memory_tokens
        self.imagination = policy.imagination if imagines else None
        self.embed_state, self.history_embedding = policy.embed_state, policy.history_embedding
        self.specification = WorldSpecification(
            input_features=config.input_features or {},
            output_features=config.output_features or {},
            history=config.n_obs_steps,
            chunk_size=config.chunk_size,
            n_action_steps=config.n_action_steps,
            imagines=imagines,
            inverts=False,
            judges=True,
        )

    def encode(self, images: Tensor) -> Tensor:
        """See `World`."""
        return self.encoder.encode(images)

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """See `World`."""
        return self.foresight.model.rollout(history, chunks)

    def outcomes(self, latents: Tensor, description: Tensor) -> Outcomes:
        """See `World`."""
        return self.foresight.model.outcomes(latents, description)

    def describe(self, batch: dict[str, Tensor]) -> Tensor:
        """See `World`."""
        return self.foresight.goal(self.backbone, self._read(batch))

    def inverse(self, latents: Tensor, goal: Tensor) -> Tensor:
        """Raise ValueError: its action head is told what to do in words."""
        raise ValueError("a latent_vla has no inverse dynamics: expected a world model trained alone")

    def imagine(self, batch: dict[str, Tensor], latents: Tensor, states: Tensor) -> Tensor:
        """See `World`."""
        assert self.imagination is not None
        state = self.embed_state(states, latents).unsqueeze(2)
        scene = torch.cat([latents, state], dim=2) + self.history_embedding
        context = self.backbone.extend(self._read(batch), [scene.flatten(1, 2)])
        return self.imagination.scenes(self.imagination.imagine(self.backbone, context))

    def _read(self, batch: dict[str, Tensor]) -> Context:
        return self.backbone.read(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK])


def latent_vla_world(description: dict[str, Any], weights: Path | None) -> World:
    """The world model of a latent_vla."""
    settings = {name: value for name, value in description.items() if name != "type"}
    policy = LatentVLAPolicy(draccus.decode(LatentVLAConfig, {**settings, "device": "cpu"}))
    if weights is not None:
        load_model(policy, weights)
    return LatentVLAWorld(policy)


class StandaloneWorld(World):
    """A world model that was trained alone."""

    def __init__(
        self, model: JEPA | LeWorldModel, inputs: dict[str, PolicyFeature], outputs: dict[str, PolicyFeature]
    ) -> None:
        super().__init__()
        if not outputs:
            raise ValueError("a world model of films without actions: expected one trained with actions")
        self.model = model
        self.specification = WorldSpecification(
            input_features=inputs,
            output_features=outputs,
            history=model.config.history,
            chunk_size=model.config.chunk_steps,
            n_action_steps=model.config.chunk_steps,
            imagines=False,
            inverts=model.inverse is not None,
            judges=isinstance(model, JEPA),
        )

    def encode(self, images: Tensor) -> Tensor:
        """See `World`."""
        return self.model.encode(images)

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """See `World`."""
        return self.model.rollout(history, chunks)

    def outcomes(self, latents: Tensor, description: Tensor) -> Outcomes:
        """See `World`."""
        return self.model.outcomes(latents, description)

    def describe(self, batch: dict[str, Tensor]) -> Tensor:
        """See `World`."""
        return self.model.goal(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK].bool())

    def inverse(self, latents: Tensor, goal: Tensor) -> Tensor:
        """See `World`."""
        assert self.model.inverse is not None
        return self.model.inverse(latents, goal)

    def imagine(self, batch: dict[str, Tensor], latents: Tensor, states: Tensor) -> Tensor:
        """Raise ValueError: it knows what follows actions, not what an instruction asks for."""
        raise ValueError("a world model trained alone imagines nothing: expected a latent_vla")


def standalone_world(description: dict[str, Any], weights: Path | None) -> World:
    """A world model as `embodied train --model.type=jepa|lewm` saves it."""
    kind = KINDS[description["type"]]
    network: Any = draccus.decode(kind.config, description["network"])
    model = kind.network(network, draccus.decode(Sizes, description["sizes"]))
    if weights is not None:
        load_model(model, weights)
    features = description["features"]
    inputs, outputs = (
        draccus.decode(dict[str, PolicyFeature], features[name])
        for name in ("input_features", "output_features")
    )
    return StandaloneWorld(model, {name: inputs[name] for name in features["cameras"]} | inputs, outputs)


WORLDS: dict[str, Callable[[dict[str, Any], Path | None], World]] = {
    **dict.fromkeys(KINDS, standalone_world),
    "latent_vla": latent_vla_world,
}
"""Per `type` in a checkpoint's config.json: from that file's contents, and the weights to load unless they
come from elsewhere, to the world model."""


def make_world(description: dict[str, Any], weights: Path | None = None) -> World:
    """The world model that a checkpoint's config.json describes, with its weights, random ones if None.

    Raises:
        ValueError: a kind not in `WORLDS`, a description that cannot be read, or weights that do not fit it.
    """
    kind = description.get("type")
    if kind not in WORLDS:
        raise ValueError(f"a checkpoint of type {kind}: expected a world model in {', '.join(WORLDS)}")
    try:
        return WORLDS[kind](description, weights)
    except (DraccusException, KeyError, RuntimeError, TypeError) as error:
        line = str(error).strip().split("\n")[0]
        raise ValueError(f"{weights or kind}: configuration and weights do not fit: {line}") from error


def load_world(folder: Path) -> tuple[dict[str, Any], World]:
    """The world model of a checkpoint folder, and its description, from which to make it again.

    Raises:
        ValueError: there is none in it.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"--policy.world_model_path={folder}: has no config.json: expected a checkpoint")
    try:
        description = json.loads(path.read_text())
        return description, make_world(description, folder / "model.safetensors")
    except ValueError as error:
        raise ValueError(f"--policy.world_model_path={folder}: {error}") from error
