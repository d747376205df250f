"""Planning policies in evaluation: goals out of the observation, seeds, checkpoints, flags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.configs.types import FeatureType
from lerobot.envs.configs import EnvConfig
from safetensors.torch import save_model

from embodied import cli
from embodied.config import CheckpointConfig, EvaluateConfig
from embodied.errors import UserError
from embodied.evaluation.agents import make_agent
from embodied.evaluation.evaluate import evaluate, run_agent
from embodied.evaluation.policy_loading import load_planner, load_policy
from embodied.evaluation.world_model_loading import load_world_model
from embodied.manifest import write_json
from embodied.rollout import Episode
from embodied.training.world_models import WorldModelFeatures, description
from policies.latent_mpc.worlds import WORLDS
from policies.latent_vla.processor_latent_vla import make_processors
from policies.latent_vla.tokenizer import VOCABULARY, ByteTokenizerStep
from tests.fake_envs import SIZE, GoalPointEnvConfig, PointEnvConfig
from tests.point_world import INPUTS, OUTPUTS, PointWorld, make_point_policy, point_processors
from world_models.config import JEPAConfig, Sizes
from world_models.from_pixels import JEPA

NUMBERS = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
VLA = {"world_model": True, "imagination": "latent"}


@pytest.fixture(autouse=True)
def _point_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORLDS, "point", PointWorld)


def run(env: EnvConfig, seeds: tuple[int, ...], num_envs: int, **overrides: Any) -> list[Any]:
    agent = make_agent(make_point_policy(**overrides), *point_processors())
    results = run_agent(agent, env, [Episode(task="east", seed=seed) for seed in seeds], num_envs=num_envs)
    return [(result.success, result.steps, result.reward) for result in results]


def test_each_episode_reaches_the_goal_it_is_shown() -> None:
    """Goals up to 0.9 away, three steps of 0.1 per look: within 12 steps, but not within 6."""
    seeds = (20, 50, 90)
    assert [row[0] for row in run(GoalPointEnvConfig(episode_length=12), seeds, 2)] == [True] * 3
    assert [row[0] for row in run(GoalPointEnvConfig(episode_length=6), seeds, 2)] == [True, True, False]


@pytest.mark.parametrize("n_action_steps", [1, 3])
def test_a_planner_scores_the_same_with_any_number_of_environments(n_action_steps: int) -> None:
    """With and without a warm start."""
    env, few = GoalPointEnvConfig(episode_length=5), {"candidates": 6, "iterations": 1, "elites": 2}
    scores = [run(env, (20, 50, 90), count, n_action_steps=n_action_steps, **few) for count in (1, 3)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_episodes_start_together_only_where_plans_go_on() -> None:
    for n_action_steps, stateful in ((1, True), (3, False)):
        agent = make_agent(make_point_policy(n_action_steps=n_action_steps), *point_processors())
        assert (agent.chunk_steps, agent.stateful) == (n_action_steps, stateful)


def test_the_environments_own_success_by_foreseen_value_alone() -> None:
    """x reaches 1 in 10 steps of 0.1 and no fewer."""
    rows = run(PointEnvConfig(episode_length=15), (0, 7), 1, goal="none", value_weight=1.0, iterations=10)
    assert [row[0] for row in rows] == [True, True]
    assert all(10 <= row[1] <= 11 for row in rows)


def test_a_planner_over_a_checkpoint_is_saved_and_acts_the_same(
    save_checkpoint: Callable, tmp_path: Path
) -> None:
    flags = ["--goal=imagined", "--candidates=16", "--planner=mppi", "--n_action_steps=4"]
    made = load_planner(save_checkpoint("latent_vla", **VLA), "cpu", flags)
    assert made[0].config.noise_shape == (4, 16, 1, 12, 2)
    for part in made:
        part.save_pretrained(tmp_path / "mpc")
    actions = []
    for policy, preprocessor, postprocessor in (made, load_policy(tmp_path / "mpc", "cpu")):
        batch = preprocessor(
            {
                "observation.images.corner": torch.full((1, 3, SIZE, SIZE), 0.4),
                "observation.state": torch.tensor([[0.1, 0.2]]),
                "task": ["go east"],
            }
        )
        torch.manual_seed(5)
        actions.append(postprocessor(policy.predict_action_chunk(batch)).numpy())
    np.testing.assert_array_equal(actions[0], actions[1])


@pytest.fixture
def saved_jepa(tmp_path: Path) -> Callable[..., Path]:
    """Writes an untrained world model of the point's environment, with or without actions."""

    def save(*, actions: bool = True, cameras: tuple[str, ...] = ("observation.images.corner",)) -> Path:
        (seen,) = (feature for feature in INPUTS.values() if feature.type is FeatureType.VISUAL)
        features = WorldModelFeatures(
            cameras=list(cameras),
            input_features=INPUTS | dict.fromkeys(cameras, seen),
            output_features=OUTPUTS if actions else {},
        )
        sizes = Sizes(
            cameras=len(cameras), action_dim=features.action_dim, state_dim=2, vocabulary=VOCABULARY
        )
        torch.manual_seed(0)
        model = JEPA(
            JEPAConfig(dim=16, num_latents=2, latent_heads=2, dynamics_heads=2, chunk_steps=3), sizes
        )
        for parameter in model.parameters():  # an untrained one foresees no change
            torch.nn.init.normal_(parameter, std=0.1)
        unit = {name: torch.full((2,), value) for name, value in NUMBERS.items()}
        statistics = {"observation.state": unit, "action": unit}
        folder = tmp_path / "jepa"
        tokenizer = ByteTokenizerStep(max_length=256)
        for part in make_processors(features, statistics, device="cpu", tokenizer=tokenizer):
            part.save_pretrained(folder)
        write_json(folder / "config.json", description("jepa", model, features))
        save_model(model, str(folder / "model.safetensors"))
        return folder

    return save


def test_a_planner_foresees_what_a_world_model_trained_alone_foresees(saved_jepa: Callable) -> None:
    folder = saved_jepa()
    policy, _, _ = load_planner(folder, "cpu")
    world = load_world_model(folder, "cpu")
    images, chunks = torch.rand(2, 1, 3, SIZE, SIZE), torch.randn(2, 1, 3, 2)
    latents = world.model.encode(images)
    assert torch.equal(policy.world.encode(images), latents)
    expected = world.model.rollout(latents[:, None], chunks)
    assert torch.equal(policy.world.rollout(latents[:, None], chunks), expected)
    assert policy.bounds.tolist() == [[-1.0, -1.0], [1.0, 1.0]]


def test_cameras_stay_in_the_order_of_training(saved_jepa: Callable) -> None:
    """A JSON object does not keep it, and a model that is shown one camera for the other says nothing."""
    cameras = ("observation.images.side", "observation.images.corner")
    folder = saved_jepa(cameras=cameras)
    policy, _, _ = load_planner(folder, "cpu")
    assert tuple(policy.config.image_features) == cameras
    assert tuple(load_world_model(folder, "cpu").features.cameras) == cameras


def test_a_planner_over_a_world_model_trained_alone_is_saved_and_runs(
    saved_jepa: Callable, tmp_path: Path
) -> None:
    for part in load_planner(saved_jepa(), "cpu", ["--reward_weight=1", "--candidates=8", "--elites=2"]):
        part.save_pretrained(tmp_path / "mpc")
    agent = make_agent(*load_policy(tmp_path / "mpc", "cpu"))
    episodes = [Episode(task="east", seed=seed) for seed in (20, 50)]
    results = run_agent(agent, GoalPointEnvConfig(episode_length=6), episodes, num_envs=1)
    assert all(result.reward != 0 for result in results)


def test_evaluate_plans_over_the_world_model_of_a_checkpoint(save_checkpoint: Callable) -> None:
    folder = save_checkpoint("latent_vla", **VLA)
    config = EvaluateConfig(
        policy=CheckpointConfig(type="latent_mpc", world_model_path=folder),
        policy_overrides=["--goal=imagined", "--candidates=8", "--elites=2", "--iterations=1"],
        env=PointEnvConfig(episode_length=3),
        episodes=1,
        num_envs=1,
        floors=False,
        device="cpu",
    )
    result = evaluate(config)
    assert result["policy"] == "latent_mpc"
    assert result["checkpoint"]["path"] == str(folder)
    assert result["tasks"][0]["episodes"] == 1


def test_the_command_line_tells_the_checkpoint_from_its_overrides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[EvaluateConfig] = []
    monkeypatch.setattr("embodied.evaluation.evaluate.evaluate", lambda config: seen.append(config) or {})
    monkeypatch.setattr(cli, "use_renderer", lambda: None)
    flags = ["--policy.type=latent_mpc", "--policy.world_model_path=runs/a", "--policy.planner=icem"]
    assert cli.main(["evaluate", *flags, "--env.type=fake_point"]) == 0
    assert seen[0].policy == CheckpointConfig(type="latent_mpc", world_model_path=Path("runs/a"))
    assert seen[0].policy_overrides == ["--planner=icem"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"--policy\.path is missing: expected a path"),
        (
            {"path": Path("a"), "world_model_path": Path("b")},
            r"world_model_path=b: expected no --policy\.path",
        ),
        ({"world_model_path": Path("b")}, r"--policy\.type=None: expected latent_mpc with"),
        ({"path": Path("a"), "type": "latent_mpc"}, r"--policy\.type=latent_mpc: expected no such flag"),
    ],
)
def test_flags_that_name_no_policy_are_refused(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CheckpointConfig(**given)


@pytest.mark.parametrize(
    ("trained", "flags", "message"),
    [
        (VLA, ["--no_such_field=1"], r"--policy\.no_such_field: expected one of .*candidates"),
        (VLA, ["--planner=cme"], "planner=cme: expected one of cem"),
        (VLA, ["--world_model={}"], r"--policy\.world_model: is fixed by training"),
        (VLA, ["--n_action_steps=13"], "n_action_steps=13: expected 1 to 12"),
        ({"world_model": True}, ["--goal=imagined"], "the world model imagines nothing"),
        ({**VLA, "memory_tokens": 2, "memory_window": 4}, ["--goal=imagined"], "and without memory"),
        (VLA, ["--goal=image", "--goal_over=max"], "goal_over=max: expected one of final"),
        ({}, [], "a latent_vla without a world model: expected one trained with"),
    ],
)
def test_a_planner_that_cannot_be_is_named_in_one_line(
    save_checkpoint: Callable, trained: dict, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_planner(save_checkpoint("latent_vla", **trained), "cpu", flags)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("actions", "flags", "message"),
    [
        (True, ["--goal=imagined"], "the world model imagines nothing"),
        (False, [], "a world model of films without actions: expected one trained with actions"),
    ],
)
def test_a_world_model_that_cannot_do_what_is_asked_is_refused(
    saved_jepa: Callable, actions: bool, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_planner(saved_jepa(actions=actions), "cpu", flags)
