"""World models in checkpoints: what diagnostics are told is what the model does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType
from lerobot.envs.utils import env_to_policy_features, preprocess_observation

from embodied.errors import UserError
from embodied.evaluation.diagnostics.holders import PolicyWorldModel, load_held
from embodied.evaluation.diagnostics.model import Encode, WorldModelUnderTest, see
from policies.latent_vla import LatentVLAConfig
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.processor_latent_vla import make_latent_vla_pre_post_processors
from policies.latent_vla.relative_actions import RELATIVE_ACTION
from policies.latent_vla.trajectories import absolute_chunks
from tests.evaluation.diagnostics.conftest import CAMERA, WITH_WORLD_MODEL
from tests.fake_envs import SIZE, PointEnv, PointEnvConfig

FRAMES = {CAMERA: np.random.default_rng(0).integers(0, 256, (70, SIZE, SIZE, 3), dtype=np.uint8)}
STATES = np.random.default_rng(1).normal(size=(70, 2)).astype(np.float32)
ACTIONS = torch.tensor([[[0.5, -1.0], [2.0, 0.0]]])


def look(x: float) -> dict:
    env = PointEnv()
    env.reset(seed=10)
    env.position = np.array([x, 0.1])
    return env.observe()


def check_encoders(world: WorldModelUnderTest) -> None:
    """Trained and untrained encoders give latents of one shape; the untrained ones go by their seed."""
    encoders: list[Encode] = [world.encode, world.untrained(5), world.untrained(5), world.untrained(6)]
    trained, first, again, other = (see(encode, FRAMES, STATES) for encode in encoders)
    assert trained.shape == (70, 2, 16)
    assert torch.equal(first, again)
    assert not torch.allclose(first, trained)
    assert not torch.allclose(first, other)
    chunks = world.normalise_actions(torch.zeros(5, 3, world.chunk_steps, world.action_size))
    history = trained[: 5 * world.history].unflatten(0, (5, world.history))
    assert world.rollout(history, chunks).shape == (5, 3, 2, 16)


def test_a_policys_world_model_sees_and_predicts(save_checkpoint: Callable) -> None:
    held = load_held(save_checkpoint("latent_vla", **WITH_WORLD_MODEL), "cpu", [])
    assert list(held.world.cameras) == [CAMERA]
    assert (held.world.action_size, held.world.history, held.world.chunk_steps) == (2, 1, 4)
    check_encoders(held.world)


@pytest.mark.parametrize("proprioceptive", [False, True])
def test_states_matter_where_latents_hold_them(save_checkpoint: Callable, proprioceptive: bool) -> None:
    folder = save_checkpoint("latent_vla", proprioceptive_latents=proprioceptive, **WITH_WORLD_MODEL)
    world = load_held(folder, "cpu", []).world
    check_encoders(world)
    here, there = see(world.encode, FRAMES, STATES), see(world.encode, FRAMES, STATES + 1)
    assert torch.equal(here, there) is not proprioceptive


def test_a_standalone_world_model_sees_and_predicts(save_jepa: Callable) -> None:
    held = load_held(save_jepa(history=2), "cpu", [])
    assert list(held.world.cameras) == [CAMERA]
    assert (held.world.action_size, held.world.history, held.world.stride) == (2, 2, 4)
    assert (held.proposer, held.policy) == (None, None)
    check_encoders(held.world)


def test_a_world_model_without_actions_takes_empty_chunks(save_jepa: Callable) -> None:
    world = load_held(save_jepa(actions=False), "cpu", []).world
    assert world.action_size == 0
    assert world.normalise_actions(torch.ones(3, 1, 4, 2)).shape == (3, 1, 4, 0)
    check_encoders(world)


def loaded_with(statistics: dict[str, Any], **changes: Any) -> tuple[Any, Any, Any]:
    """A policy and its processors, whose data set has these statistics of actions."""
    config = LatentVLAConfig(
        device="cpu", dim=16, heads=2, head_dim=16, head_heads=2, **WITH_WORLD_MODEL, **changes
    )
    features = env_to_policy_features(PointEnvConfig())
    config.input_features = {k: f for k, f in features.items() if f.type is not FeatureType.ACTION}
    config.output_features = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
    unit = {"mean": torch.zeros(2), "std": torch.ones(2)}
    names = {"observation.state": {"names": ["x", "y"]}, "action": {"names": ["x", "y"]}}
    processors = make_latent_vla_pre_post_processors(
        config,
        {"observation.state": unit, "action": unit} | statistics,
        SimpleNamespace(features=names),  # type: ignore[arg-type]
    )
    return LatentVLAPolicy(config).eval(), *processors


@pytest.mark.parametrize("relative", [False, True])
def test_actions_are_normalised_as_in_training(relative: bool) -> None:
    moments = {"mean": torch.tensor([0.3, -1.0]), "std": torch.tensor([0.2, 5.0])}
    loaded = loaded_with({RELATIVE_ACTION if relative else "action": moments}, relative_actions=relative)
    world = PolicyWorldModel(*loaded)
    picture, state = torch.zeros(1, 3, SIZE, SIZE), torch.tensor([[0.7, 2.0]])
    batch = {CAMERA: picture, "observation.state": state, "action": ACTIONS, "task": ["go east"]}
    expected = absolute_chunks(loaded[1](batch), 2)[:, 0]
    torch.testing.assert_close(world.normalise_actions(ACTIONS), expected)
    torch.testing.assert_close(expected, (ACTIONS - moments["mean"]) / moments["std"])


def test_proposals_are_those_that_plan_mode_chooses_from(make_loaded: Callable) -> None:
    policy, preprocessor, postprocessor = make_loaded("latent_vla", mode="plan", **WITH_WORLD_MODEL)
    for parameter in policy.foresight.model.dynamics.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # at first it foresees that nothing ever happens
    world = PolicyWorldModel(policy, preprocessor, postprocessor)
    noise = np.random.default_rng(0).standard_normal((6, *world.noise_shape)).astype(np.float32)
    chunks, scores = world.propose([look(0.3)], "go east", noise)
    assert chunks.shape == (6, 4, 2)
    assert len(np.unique(scores)) == 6
    seen = {
        "pixels": {"corner": look(0.3)["pixels"]["corner"][None]},
        "agent_pos": look(0.3)["agent_pos"][None],
    }
    batch = preprocessor({**preprocess_observation(seen), "task": ["go east"]})
    planned = postprocessor(policy.predict_action_chunk(batch, noise=torch.from_numpy(noise[None]))[0])
    np.testing.assert_allclose(planned, chunks[scores.argmax()], atol=1e-5)


def test_proposals_see_the_whole_history(make_loaded: Callable) -> None:
    loaded = make_loaded("latent_vla", n_obs_steps=2, **WITH_WORLD_MODEL)
    world = PolicyWorldModel(*loaded)
    noise = np.random.default_rng(0).standard_normal((6, *world.noise_shape)).astype(np.float32)
    first = world.propose([look(0.0), look(0.3)], "go east", noise)
    other = world.propose([look(0.2), look(0.3)], "go east", noise)
    assert not np.allclose(first[0], other[0])


def test_a_policy_without_a_world_model_is_refused(save_checkpoint: Callable) -> None:
    for kind in ("act", "latent_vla"):
        with pytest.raises(UserError, match=f"a {kind} without a world model: expected a jepa or lewm, or"):
            load_held(save_checkpoint(kind), "cpu", [])


def test_other_flags_change_a_policys_configuration_and_no_other_models(
    save_checkpoint: Callable, save_jepa: Callable
) -> None:
    folder = save_checkpoint("latent_vla", **WITH_WORLD_MODEL)
    held = load_held(folder, "cpu", ["--exploration=0.25"])
    assert held.proposer is not None
    assert held.proposer.exploration == 0.25
    with pytest.raises(UserError, match=r"--model\.exploration: is fixed by training"):
        load_held(save_jepa(), "cpu", ["--exploration=0.25"])
