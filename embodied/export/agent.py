"""An export as the agent of a rollout, so that it is evaluated as its checkpoint is.

B episodes, n steps executed per decision, A action size.
"""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.configs.types import FeatureType, PolicyFeature

from embodied.errors import UserError
from embodied.evaluation.policy_loading import check_features
from embodied.lerobot_plugin import SimulatedEnvConfig
from embodied.manifest import MANIFEST, read_json
from embodied.rollout import Episode
from embodied.serving.export_folder import check_flags, read_description
from embodied.serving.exported_runner import ExportedPolicy
from embodied.serving.runner import Request
from embodied.serving.sessions import Decider, Past, draw_noise
from embodied.serving.specification import ACTION, IMAGE_PREFIX, STATE, Specification
from embodied.training.provenance import provenance

MODE = "mode"


class DeciderAgent:
    """Executes the first n_action_steps of each chunk; noise as `ChunkAgent` draws it. Implements `Agent`.

    Decides for one episode after another, each with a past of its own: not stateful as rollouts mean it.
    """

    stateful = False
    sociable = False

    def __init__(self, decider: Decider, mode: str) -> None:
        self._decider, self._mode = decider, mode
        self.chunk_steps = decider.specification.n_action_steps
        self._pasts: dict[tuple[str, int], Past] = {}

    def begin(self, action_space: gym.spaces.Box) -> None:
        """Forget the episodes before."""
        self._pasts.clear()

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Choose chunks (B, n, A)."""
        chunks = []
        shape = self._decider.noise_shape(self._mode)
        for row, (episode, look) in enumerate(zip(episodes, looks, strict=True)):
            key = (episode.task, episode.seed)
            request = Request(
                session=f"{episode.task} {episode.seed}",
                images={camera: pictures[row] for camera, pictures in observation["pixels"].items()},
                state=observation["agent_pos"][row].astype(np.float32),
                task=instructions[row],
            )
            noise = draw_noise(shape, episode.seed, look)[None]
            past = self._pasts.get(key) if look else None
            outcome = self._decider.decide(self._mode, [request], noise, [past])
            self._pasts[key] = outcome.past[0]
            chunks.append(outcome.actions[0, : self.chunk_steps])
        return np.stack(chunks)


def load_exported(
    path: Path, env: SimulatedEnvConfig, device: str | None, overrides: list[str]
) -> DeciderAgent:
    """The agent of an exported folder, in the mode that `--mode=...` among `overrides` names, or the first.

    Raises:
        UserError: a folder that cannot be used, a flag that an export cannot change, a mode that it does not
            have, or an environment that does not fit it.
    """
    check_flags(path, device, overrides, changeable=(MODE,))
    policy = ExportedPolicy(path)
    check_features(_features(policy.specification), env)
    modes = policy.specification.modes
    mode = overrides[-1].partition("=")[2] if overrides else modes[0]
    if mode not in modes:
        raise UserError(f"--policy.{MODE}={mode}: {path}: expected one of {', '.join(modes)}")
    return DeciderAgent(policy, mode)


def _features(specification: Specification) -> dict[str, PolicyFeature]:
    """What it asks of an environment, as a checkpoint's configuration says it."""
    pictures = {
        f"{IMAGE_PREFIX}{camera}": PolicyFeature(FeatureType.VISUAL, (channels, height, width))
        for camera, (height, width, channels) in specification.cameras.items()
    }
    numbers = {
        STATE: PolicyFeature(FeatureType.STATE, (len(specification.state.names),)),
        ACTION: PolicyFeature(FeatureType.ACTION, (len(specification.action.names),)),
    }
    return pictures | numbers


def export_origin(path: Path, seed: int) -> dict[str, Any]:
    """As `checkpoint_origin`, of the checkpoint that was exported; `export`: SHA-256 of what was written."""
    trained = read_description(path)["trained"]
    return {
        "checkpoint": {"path": str(path), **trained["checkpoint"]},
        "export": read_json(path / MANIFEST)["sha256"],
        **provenance(dataset=trained["dataset"], seed=seed),
    }
