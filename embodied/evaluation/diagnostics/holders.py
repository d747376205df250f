"""The checkpoints that hold a world model: a `latent_vla` policy, or a `jepa` that was trained on its own.

T history moments, K latent tokens, D width, N chunks of h environment steps, A action size, C candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from embodied.errors import UserError
from embodied.evaluation.diagnostics.model import Encode, Observation, Proposer, WorldModelUnderTest
from embodied.evaluation.policy_loading import LoadedPolicy, load_policy
from embodied.evaluation.world_model_loading import LoadedWorldModel, load_world_model
from embodied.manifest import read_json
from embodied.training.checkpoint import load_checkpoint_folder
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from world_models.encoders import stack_cameras
from world_models.kinds import KINDS


class PolicyWorldModel:
    """The world model inside a `latent_vla` policy: implements `WorldModelUnderTest` and `Proposer`."""

    def __init__(self, policy: LatentVLAPolicy, preprocessor: Any, postprocessor: Any) -> None:
        assert policy.foresight is not None
        config = policy.config
        self._policy, self._world = policy, policy.foresight.model
        self._preprocessor, self._postprocessor = preprocessor, postprocessor
        self.cameras: Mapping[str, tuple[int, ...]] = {
            name: tuple(feature.shape) for name, feature in config.image_features.items()
        }
        self.action_size, self.history = config.action_size, config.n_obs_steps
        self.stride, self.chunk_steps = config.n_action_steps, config.chunk_size
        self.noise_shape = (config.chunk_size, config.action_size)
        self.exploration = config.exploration
        self.device = torch.device(str(config.device))
        # Un-normalising is affine, and so tells how to normalise actions, be they relative or not.
        self._offset = postprocessor(torch.zeros(1, self.action_size))[0]
        self._unit = postprocessor(torch.ones(1, self.action_size))[0] - self._offset

    def encode(self, pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
        """Latents (B, K, D) of pictures, per camera (B, 3, H, W) in [0, 1], and states (B, S)."""
        return self._see(self._policy, pictures, states)

    def untrained(self, seed: int) -> Encode:
        """An encoder of the same architecture that has learned nothing."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            fresh = LatentVLAPolicy(self._policy.config).to(self.device).eval()
        return lambda pictures, states: self._see(fresh, pictures, states)

    @torch.no_grad()
    def _see(self, policy: LatentVLAPolicy, pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
        images = stack_cameras([pictures[name] for name in self.cameras])
        seen = self._preprocessor({OBS_STATE: states, "task": [""] * len(states)})
        return policy.see(policy.encoder.features(images.to(self.device)), seen[OBS_STATE])

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) as `rollout` takes them."""
        return ((actions - self._offset) / self._unit).to(self.device)

    @torch.no_grad()
    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A), normalised. Returns (B, N, K, D)."""
        return self._world.rollout(history, chunks)

    def propose(
        self, looks: Sequence[Observation], instruction: str, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """looks: T, the present last; noise: (C, h, A). Chunks (C, h, A) in their own units, scores (C,)."""
        stacked = {
            "pixels": {
                camera: np.stack([look["pixels"][camera] for look in looks]) for camera in looks[0]["pixels"]
            },
            "agent_pos": np.stack([look["agent_pos"] for look in looks]),
        }
        batch: dict[str, Any] = preprocess_observation(stacked)
        if self.history > 1:
            batch = {key: value.unsqueeze(0) for key, value in batch.items()}
        batch = self._preprocessor({**batch, "task": [instruction]})
        self._policy.reset()  # what it remembers is of no episode that is evaluated here
        with torch.no_grad():
            chunks, scores = self._policy.propose(batch, torch.from_numpy(noise[None]).to(self.device))
            return self._postprocessor(chunks[0].float()).numpy(), scores[0].float().cpu().numpy()


class StandaloneWorldModel:
    """A world model that was trained on its own: implements `WorldModelUnderTest`."""

    def __init__(self, loaded: LoadedWorldModel) -> None:
        self._loaded, features, config = loaded, loaded.features, loaded.model.config
        self.cameras: Mapping[str, tuple[int, ...]] = {
            name: tuple(features.input_features[name].shape) for name in features.cameras
        }
        self.action_size, self.history = features.action_dim, config.history
        self.stride = self.chunk_steps = config.chunk_steps
        self.device = torch.device(loaded.device)

    def encode(self, pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
        """Latents (B, K, D) of pictures, per camera (B, 3, H, W) in [0, 1]; states do not matter."""
        return self._loaded.see(pictures)

    def untrained(self, seed: int) -> Encode:
        """An encoder of the same architecture that has learned nothing."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            trained: Any = self._loaded.model
            fresh = type(trained)(trained.config, trained.sizes).to(self.device).eval()

        @torch.no_grad()
        def encode(pictures: Mapping[str, Tensor], states: Tensor) -> Tensor:
            images = stack_cameras([pictures[name] for name in self.cameras])
            return fresh.encode(images.to(self.device))

        return encode

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., A) as `rollout` takes them."""
        if not self.action_size:
            return actions[..., :0].to(self.device)
        return self._loaded.normalise_actions(actions)

    @torch.no_grad()
    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A), normalised. Returns (B, N, K, D)."""
        return self._loaded.model.rollout(history, chunks)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A world model and, if it is part of a policy, what proposes and scores chunks, and the policy."""

    world: WorldModelUnderTest
    proposer: Proposer | None = None
    policy: LoadedPolicy | None = None


def load_held(path: Path, device: str | None, overrides: list[str]) -> Held:
    """Load a checkpoint's world model.

    overrides: flags of the policy's own configuration, such as `--value_weight=1`.

    Raises:
        UserError: a checkpoint that cannot be used or holds no world model, or overrides without a policy.
    """
    description = load_checkpoint_folder(path) / "config.json"
    if description.is_file() and read_json(description).get("type") in KINDS:
        if overrides:
            name = overrides[0].removeprefix("--").partition("=")[0]
            raise UserError(f"--model.{name}: is fixed by training, expected no such flag for a world model")
        return Held(world=StandaloneWorldModel(load_world_model(path, device)))
    loaded = load_policy(path, device, overrides)
    policy = loaded[0]
    if not isinstance(policy, LatentVLAPolicy) or policy.foresight is None:
        raise UserError(
            f"--model.path={path}: a {policy.config.type} without a world model: expected a "
            f"{' or '.join(KINDS)}, or a latent_vla that was trained with --policy.world_model=true"
        )
    world = PolicyWorldModel(policy, *loaded[1:])
    return Held(world=world, proposer=world, policy=loaded)
