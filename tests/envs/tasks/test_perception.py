import numpy as np
import pytest

from embodied.evaluation.necessity import outcomes
from envs.rendering import SceneRenderer
from envs.so101 import SO101Env
from envs.tabletop import FREE_VIEWS, VIEWS
from envs.tasks import make_task
from envs.tasks.perception import BELIEVED, SHADES, SHAPES

LEVELS = (1, 2, 3)
EPISODES = 30


@pytest.mark.parametrize("split", ["", "-held-out"])
@pytest.mark.parametrize("level", LEVELS)
def test_only_who_sees_rightly_succeeds(level: int, split: str) -> None:
    task = f"perception-{level}{split}"
    assert outcomes((task, "expert", range(EPISODES))).count("1") >= EPISODES - 2
    assert outcomes((task, "blind", range(EPISODES))).count("1") <= EPISODES * 0.55


@pytest.mark.parametrize("level", LEVELS)
def test_the_usual_camera_would_see_things_where_they_are_and_a_shifted_one_far_off(level: int) -> None:
    for split, low, high in (("", 0.0, 1e-9), ("-held-out", 0.02, 0.2)):
        env = SO101Env(f"perception-{level}{split}")
        for seed in range(30):
            env.restart(seed=seed)
            world = env._running()
            here = np.array([world.position(name)[:2] for name in world.names])
            off = np.linalg.norm(env._goal.numbers[BELIEVED:].reshape(-1, 2) - here, axis=1)
            assert low <= off.mean() <= high


def test_a_shift_ends_with_its_episode() -> None:
    env = SO101Env("perception-3-held-out")
    env.restart(seed=0)
    model = env._running().model
    shifted = model.cam_pos.copy(), model.light_dir.copy(), model.geom("table").rgba.copy()
    env._running().reset(np.random.default_rng(0))
    usual = SO101Env("perception-3")
    usual.restart(seed=0)
    for before, now, expected in zip(
        shifted,
        (model.cam_pos, model.light_dir, model.geom("table").rgba),
        (
            usual._running().model.cam_pos,
            usual._running().model.light_dir,
            usual._running().model.geom("table").rgba,
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(now, expected)
        assert np.abs(before - now).max() > 0.01


@pytest.mark.parametrize(("level", "words"), [(1, SHADES), (2, SHADES), (3, SHAPES)])
def test_the_instruction_names_one_of_the_things(level: int, words: tuple[str, ...]) -> None:
    env = SO101Env(f"perception-{level}")
    for seed in range(30):
        env.restart(seed=seed)
        assert sum(word in env.task_description.split() for word in words) >= 1


@pytest.mark.render
def test_the_cameras_of_the_scene_see_what_the_views_describe() -> None:
    """They stand where free cameras of the same views would: two pictures are the same but for rounding."""
    world = make_task("reach-cube").make_world()
    world.reset(np.random.default_rng(0))
    world.place("cube", (0.22, 0.03, 0.0125))
    pictures = []
    for views in (VIEWS, FREE_VIEWS):
        renderer = SceneRenderer(world.model, width=96, height=96, views=views)
        pictures.append([renderer.render(world.data, name).astype(int) for name in FREE_VIEWS])
        renderer.close()
    assert np.abs(np.array(pictures[0]) - np.array(pictures[1])).mean() < 0.5


@pytest.mark.render
def test_held_out_looks_different_and_stays_in_view() -> None:
    for level in LEVELS:
        pictures = []
        for split in ("", "-held-out"):
            env = SO101Env(f"perception-{level}{split}", cameras=("front",))
            pictures.append(env.reset(seed=3)[0]["pixels"]["front"].astype(int))
            env.close()
        assert np.abs(pictures[0] - pictures[1]).mean() > 3
        assert (np.ptp(pictures[0], axis=-1) > 60).sum() > 30
