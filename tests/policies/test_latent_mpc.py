"""The planning policy in a world whose model is exact, and over the world model of a latent_vla."""

import json

import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors

from policies.latent_mpc.configuration_latent_mpc import LatentMPCConfig, goal_key
from policies.latent_mpc.modeling_latent_mpc import LatentMPCPolicy
from policies.latent_mpc.worlds import WORLDS
from tests.point_world import CAMERA, PointWorld, make_point_policy, picture
from world_models.planners import PLANNERS

VLA = {"world_model": True, "imagination": "latent"}


@pytest.fixture(autouse=True)
def _point_world(monkeypatch):
    monkeypatch.setitem(WORLDS, "point", PointWorld)


@pytest.fixture
def saved_vla(make_policy, tmp_path):
    """Folder of a latent_vla whose world model foresees that actions matter, actions within -1 and 2."""
    policy = make_policy(**VLA, tower="strided24")
    for parameter in policy.foresight.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    statistics = {
        "observation.state": {"mean": torch.zeros(4), "std": torch.ones(4)},
        "action": {
            "mean": torch.ones(4),
            "std": torch.full((4,), 2.0),
            "min": torch.full((4,), -1.0),
            "max": torch.full((4,), 2.0),
        },
    }
    for part in (policy, *make_pre_post_processors(policy.config, dataset_stats=statistics)):
        part.save_pretrained(tmp_path / "vla")
    return tmp_path / "vla"


def look(*xs, goals=None):
    """A batch of points at `xs`, and where they shall go."""
    batch = {CAMERA: picture(*xs), "observation.state": torch.zeros(len(xs), 2)}
    return batch if goals is None else {**batch, goal_key(CAMERA): picture(*goals)}


def moved(plan):
    """How far each plan (B, H, A) takes its point."""
    return 0.1 * plan[..., 0].sum(1)


@pytest.mark.parametrize("planner", PLANNERS)
def test_every_planner_reaches_each_episodes_own_goal(planner):
    """0.2 east and 0.1 west, both within three steps of at most 0.1."""
    iterations = 60 if planner == "gradient" else 6
    policy = make_point_policy(planner=planner, iterations=iterations)
    plan = policy.predict_action_chunk(look(0.0, 0.5, goals=(0.2, 0.4)))
    assert plan.shape == (2, 3, 2)
    assert torch.allclose(moved(plan), torch.tensor([0.2, -0.1]), atol=0.01)


def test_a_goal_out_of_reach_is_approached_at_full_speed():
    plan = make_point_policy().predict_action_chunk(look(0.0, goals=(0.9,)))
    assert moved(plan) > 0.29


def test_two_chunks_reach_what_one_cannot():
    plan = make_point_policy(plan_chunks=2).predict_action_chunk(look(0.0, goals=(0.5,)))
    assert plan.shape == (1, 6, 2)
    assert moved(plan) == pytest.approx(0.5, abs=0.02)


def test_an_imagined_scene_is_a_goal():
    """The world imagines 0.1 east per chunk; two chunks are matched scene by scene."""
    policy = make_point_policy(goal="imagined", goal_over="mean", plan_chunks=2, iterations=10)
    plan = policy.predict_action_chunk(look(0.0, 0.3))
    assert torch.allclose(moved(plan[:, :3]), torch.tensor(0.1), atol=0.03)
    assert torch.allclose(moved(plan), torch.tensor(0.2), atol=0.03)


@pytest.mark.parametrize("weights", [{"value_weight": 1.0}, {"reward_weight": 1.0}])
def test_foreseen_value_alone_leads_east(weights):
    plan = make_point_policy(goal="none", **weights).predict_action_chunk(look(0.0))
    assert moved(plan) > 0.29


def test_a_penalty_holds_plans_near_the_data():
    """x / 10 per unit of action against action^2 / 6: the least lies at 0.3, far from the bound at 1."""
    policy = make_point_policy(goal="none", value_weight=1.0, prior_weight=1.0, iterations=12)
    plan = policy.predict_action_chunk(look(0.0))
    assert torch.allclose(plan[0, :, 0], torch.tensor(0.3), atol=0.1)
    assert torch.allclose(plan[0, :, 1], torch.tensor(0.0), atol=0.1)


def test_inverse_dynamics_give_the_plan_where_nothing_is_searched():
    """0.5 east in two chunks: 0.3, which is the most that one can do, then the 0.2 that are left."""
    policy = make_point_policy(begin="inverse", plan_chunks=2, iterations=1, start_std=1e-6)
    plan = policy.predict_action_chunk(look(0.0, goals=(0.5,)))
    assert moved(plan[:, :3]) == pytest.approx(0.3, abs=1e-4)
    assert moved(plan) == pytest.approx(0.5, abs=1e-4)


def test_the_next_search_goes_on_from_the_rest_of_the_plan():
    """Two draws at a time find little; what they found stays."""
    few = {"candidates": 4, "iterations": 1, "elites": 2, "start_std": 0.4, "plan_chunks": 3}
    progress = {}
    for warm_start in (True, False):
        torch.manual_seed(0)
        policy = make_point_policy(
            goal="none", value_weight=1.0, warm_start=warm_start, n_action_steps=1, **few
        )
        plans = [policy.predict_action_chunk(look(*[0.0] * 32)) for _ in range(8)]
        progress[warm_start] = moved(plans[-1]).mean().item()
    assert progress[True] > 2 * progress[False]


def test_reset_forgets_the_plan_before():
    policy, noise = make_point_policy(n_action_steps=1), torch.randn(1, 6, 64, 1, 3, 2)
    batch = look(0.0, goals=(0.2,))
    first = policy.predict_action_chunk(batch, noise=noise)
    second = policy.predict_action_chunk(batch, noise=noise)
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(batch, noise=noise), first)
    assert not torch.equal(second, first)


def test_an_episodes_plan_does_not_depend_on_those_beside_it():
    """Two looks in turn, so that the warm start is its own as well."""
    noise = torch.randn(2, 3, 6, 64, 1, 3, 2)
    policy, alone = make_point_policy(n_action_steps=1), make_point_policy(n_action_steps=1)
    for step in range(2):
        plans = policy.predict_action_chunk(look(0.0, 0.1, 0.2, goals=(0.3, 0.0, 0.2)), noise=noise[step])
        plan = alone.predict_action_chunk(look(0.1, goals=(0.0,)), noise=noise[step, 1:2])
    assert torch.allclose(plans[1], plan[0], atol=1e-5)


def test_selected_actions_are_the_plan_in_order():
    policy, noise = make_point_policy(n_action_steps=2), torch.randn(1, 6, 64, 1, 3, 2)
    batch = look(0.0, goals=(0.2,))
    plan = policy.predict_action_chunk(batch, noise=noise)
    policy.reset()
    actions = [policy.select_action(batch, noise=noise) for _ in range(2)]
    assert torch.equal(torch.stack(actions, dim=1), plan[:, :2])


def test_a_search_by_gradient_works_inside_inference_mode():
    with torch.inference_mode():
        policy = make_point_policy(planner="gradient", iterations=60)
        plan = policy.predict_action_chunk(look(0.0, goals=(0.2,)))
    assert moved(plan) == pytest.approx(0.2, abs=0.01)


def test_a_budget_fixes_the_counts_and_the_plan_still_arrives():
    policy = make_point_policy()
    policy.fit_budget(look(0.0, goals=(0.2,)), milliseconds=1000)
    assert policy.config.candidates == 1024
    assert policy.config.noise_shape == (6, 1024, 1, 3, 2)
    assert moved(policy.predict_action_chunk(look(0.0, goals=(0.2,)))) == pytest.approx(0.2, abs=0.01)
    with pytest.raises(ValueError, match=r"a budget of .* ms: expected at least"):
        policy.fit_budget(look(0.0, goals=(0.2,)), milliseconds=1e-6)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (look(0.0), "goal pictures none: expected observation.goal.images.corner"),
        (
            {**look(0.0), goal_key(CAMERA): torch.zeros(1, 3, 16, 32)},
            "goal picture observation.goal.images.corner is 3x16x32: expected 3x32x32",
        ),
    ],
)
def test_a_goal_picture_that_does_not_fit_is_named(batch, message):
    with pytest.raises(ValueError, match=message):
        make_point_policy().predict_action_chunk(batch)


def test_another_batch_without_a_reset_is_refused():
    policy = make_point_policy(n_action_steps=1)
    policy.predict_action_chunk(look(0.0, 0.1, goals=(0.2, 0.2)))
    with pytest.raises(ValueError, match="a batch of 1 after one of 2: expected reset"):
        policy.predict_action_chunk(look(0.0, goals=(0.2,)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"goal": "picture"}, "--policy.goal=picture: expected one of image, imagined, none"),
        ({"goal_over": "max"}, "--policy.goal_over=max: expected one of final, min, mean"),
        ({"goal": "none"}, "--policy.goal=none: expected --policy.reward_weight"),
        ({"planner": "cme"}, "--policy.planner=cme: expected one of cem, icem, mppi, gradient"),
        ({"candidates": 2}, "--policy.candidates=2: expected at least 3"),
        ({"goal_weight": -1.0}, r"--policy.goal_weight=-1\.0: expected at least 0"),
        ({"action_limit": 0.0}, r"--policy.action_limit=0\.0: expected more than 0"),
        ({"n_action_steps": 4}, "--policy.n_action_steps=4: expected 1 to 3"),
        ({"goal": "imagined", "world": {"imagines": False}}, "--policy.goal=imagined: the world model"),
        ({"begin": "end"}, "--policy.begin=end: expected one of data, inverse"),
        ({"begin": "inverse", "world": {"inverts": False}}, "--policy.begin=inverse: the world model has no"),
        (
            {"begin": "inverse", "goal": "none", "value_weight": 1.0},
            "begin=inverse: expected --policy.goal=image",
        ),
        ({"world": {"type": "globe"}}, "a checkpoint of type globe: expected a world model in"),
    ],
)
def test_a_configuration_that_cannot_be_is_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        make_point_policy(**overrides)


def test_without_a_world_model_there_is_no_policy():
    with pytest.raises(ValueError, match=r"--policy\.world_model_path is missing"):
        LatentMPCPolicy(LatentMPCConfig(device="cpu"))


# --- over a latent_vla ----------------------------------------------------------------------------


def planner_over(folder, **overrides):
    return LatentMPCPolicy(LatentMPCConfig(device="cpu", world_model_path=folder, **overrides)).eval()


def test_it_foresees_what_the_latent_vla_foresees(saved_vla, make_policy, make_batch):
    """One step of the planner's world is the foresight of the policy that it was taken from."""
    policy = planner_over(saved_vla)
    vla = type(make_policy(**VLA)).from_pretrained(saved_vla)
    batch, chunks = make_batch(), torch.randn(2, 1, 12, 4)
    latents, _ = vla._observe(batch)
    images = torch.stack([batch[key] for key in policy.config.image_features], dim=1)
    assert torch.equal(policy.world.encode(images).unsqueeze(1), latents)
    foreseen = vla.foresight.model.rollout(latents, chunks)
    assert torch.equal(policy.world.rollout(latents, chunks), foreseen)
    assert torch.equal(policy.world.describe(batch), vla.foresight.goal(vla.backbone, vla._read(batch)))


def test_it_imagines_what_the_latent_vla_imagines(saved_vla, make_policy, make_batch):
    policy = planner_over(saved_vla, goal="imagined")
    vla = type(make_policy(**VLA)).from_pretrained(saved_vla)
    batch = make_batch()
    latents, state = vla._observe(batch)
    context = vla.backbone.extend(vla._read(batch), [vla._scene(latents, state)])
    expected = vla.imagination.imagine(vla.backbone, context)
    assert torch.allclose(policy.world.imagine(batch, latents, state), expected, atol=1e-6)


def test_actions_stay_in_the_range_of_the_data(saved_vla, make_batch):
    """Actions from -1 to 2 with mean 1 and deviation 2 are -1 to 0.5 once normalised."""
    policy = planner_over(saved_vla, goal="none", value_weight=1.0, iterations=8)
    plan = policy.predict_action_chunk(make_batch())
    assert plan.min() >= -1
    assert plan.max() <= 0.5
    assert plan.max() > 0.45


@pytest.mark.parametrize("goal", ["image", "imagined", "none"])
def test_plans_get_closer_to_their_goal_than_chance(saved_vla, make_batch, goal):
    policy = planner_over(saved_vla, goal=goal, value_weight=1.0 if goal == "none" else 0.0)
    batch = make_batch()
    batch |= {goal_key(key): batch[key].flip(0) for key in policy.config.image_features}
    situation = policy._look(batch)
    policy.reset()
    torch.manual_seed(0)
    plan = policy.predict_action_chunk(batch).view(2, 1, 1, 12, 4)
    chance = torch.randn(2, 64, 1, 12, 4).clamp(-1, 0.5)
    assert (policy._cost(situation, plan)[:, 0] < policy._cost(situation, chance).amin(1)).all()


@pytest.mark.parametrize("planner", PLANNERS)
def test_save_and_load_give_identical_actions(saved_vla, make_batch, tmp_path, planner):
    policy = planner_over(saved_vla, goal="imagined", planner=planner)
    policy.save_pretrained(tmp_path / "mpc")
    for file in saved_vla.iterdir():
        file.unlink()  # what it holds is enough
    loaded = LatentMPCPolicy.from_pretrained(tmp_path / "mpc", strict=True)
    batch, noise = make_batch(), torch.randn(2, *policy.config.noise_shape)
    assert torch.equal(
        policy.predict_action_chunk(batch, noise=noise), loaded.predict_action_chunk(batch, noise=noise)
    )


def test_a_checkpoint_holds_the_world_model_and_no_action_head(saved_vla, tmp_path):
    policy = planner_over(saved_vla)
    policy.save_pretrained(tmp_path / "mpc")
    assert json.loads((tmp_path / "mpc" / "config.json").read_text())["type"] == "latent_mpc"
    names = {name.split(".")[1] for name in policy.state_dict() if name.startswith("world.")}
    assert {"encoder", "foresight", "backbone", "imagination"} <= names
    assert "head" not in names
    config = PreTrainedConfig.from_pretrained(tmp_path / "mpc")
    assert (config.chunk_size, config.n_action_steps, config.n_obs_steps) == (12, 12, 1)


def test_processors_are_those_of_the_world_model(saved_vla):
    preprocessor, postprocessor = make_pre_post_processors(
        LatentMPCConfig(device="cpu", world_model_path=saved_vla)
    )
    assert torch.equal(postprocessor(torch.zeros(1, 4)), torch.ones(1, 4))
    batch = preprocessor(
        {"observation.state": torch.ones(1, 4), goal_key(CAMERA): picture(0.5), "task": ["go"]}
    )
    assert torch.equal(batch[goal_key(CAMERA)], picture(0.5))


def test_a_latent_vla_without_a_world_model_is_refused(make_policy, tmp_path):
    make_policy().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a latent_vla without a world model: expected one trained with"):
        planner_over(tmp_path)
