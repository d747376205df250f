"""Planning policies in evaluation: goals out of the observation, seeds, checkpoints, flags."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.envs.configs import EnvConfig

from embodied import cli
from embodied.config import CheckpointConfig, EvaluateConfig
from embodied.errors import UserError
from embodied.evaluation.agents import make_agent
from embodied.evaluation.evaluate import evaluate, run_agent
from embodied.evaluation.policy_loading import load_planner, load_policy
from embodied.rollout import Episode
from policies.latent_mpc.worlds import WORLDS
from tests.fake_envs import SIZE, GoalPointEnvConfig, PointEnvConfig
from tests.point_world import PointWorld, make_point_policy, point_processors

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
        ({}, [], "a latent_vla without a world model: expected one trained with"),
    ],
)
def test_a_planner_that_cannot_be_is_named_in_one_line(
    save_checkpoint: Callable, trained: dict, flags: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_planner(save_checkpoint("latent_vla", **trained), "cpu", flags)
    assert "\n" not in str(caught.value)
