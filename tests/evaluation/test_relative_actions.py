"""Relative actions in closed loop: LeRobot's evaluation, action by action, and ours, by chunks, agree."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType
from lerobot.envs.utils import env_to_policy_features
from lerobot.processor import PolicyProcessorPipeline
from lerobot.scripts.lerobot_eval import rollout as lerobot_rollout

from embodied.evaluation.agents import make_agent
from embodied.rollout import Episode, rollout
from policies.latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.processor_latent_vla import make_latent_vla_pre_post_processors
from policies.latent_vla.relative_actions import RELATIVE_ACTION
from tests.fake_envs import PointEnv, PointEnvConfig

STEPS, CHUNK = 6, 3
NAMES = {"observation.state": {"names": ["x", "y"]}, "action": {"names": ["x", "y"]}}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """A policy whose network always predicts 0.5, which means 0.4 ahead of the state."""
    config = LatentVLAConfig(
        device="cpu",
        n_action_steps=CHUNK,
        relative_actions=True,
        dim=16,
        depth=1,
        heads=2,
        head_dim=16,
        head_depth=1,
        head_heads=2,
        num_latents=2,
    )
    features = env_to_policy_features(PointEnvConfig())
    config.input_features = {k: f for k, f in features.items() if f.type is not FeatureType.ACTION}
    config.output_features = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
    policy = LatentVLAPolicy(config).eval()
    monkeypatch.setattr(policy.head, "sample", lambda states, noise, prefix: torch.full_like(noise, 0.5))
    unit = {"mean": torch.zeros(2), "std": torch.ones(2)}
    relative = {"mean": torch.full((2,), 0.3), "std": torch.full((2,), 0.2)}
    statistics = {"observation.state": unit, "action": unit, RELATIVE_ACTION: relative}
    processors = make_latent_vla_pre_post_processors(config, statistics, SimpleNamespace(features=NAMES))  # type: ignore[arg-type]
    return policy, *processors


def test_a_chunk_commands_what_it_meant_when_it_was_predicted(loaded: tuple[Any, Any, Any]) -> None:
    """From (0, 0.06): each chunk commands its start plus 0.4, and moves by a tenth of that, three times."""
    expected, position, reward = [], np.array([0.0, 0.06]), 0.0
    for step in range(STEPS):
        if step % CHUNK == 0:
            command = position + 0.4
        expected.append(command)
        position = position + 0.1 * command
        reward += position[0]
    env = gym.vector.SyncVectorEnv([lambda: PointEnv(length=STEPS)])
    same: Any = PolicyProcessorPipeline(steps=[])
    found = lerobot_rollout(env, loaded[0], same, same, loaded[1], loaded[2], seeds=[6])
    np.testing.assert_allclose(found["action"][0].numpy(), expected, rtol=1e-5)

    env_config = PointEnvConfig(episode_length=STEPS)
    results = rollout(
        {"east": env_config.env_fn("east")}, make_agent(*loaded), [Episode(task="east", seed=6)], num_envs=1
    )
    assert results[0].reward == pytest.approx(reward, rel=1e-5)
