import subprocess
import sys

import mujoco
import numpy as np
import pytest

from envs.metaworld import MetaworldEnv
from envs.metaworld_tasks import MT50
from envs.rendering import VIEWS, FreeView, SceneRenderer

OTHERS = tuple(task for task in MT50 if task not in ("pick-place", "drawer-open"))
SCENE = """<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="2 2 .1" rgba=".2 .3 .4 1"/>
<geom type="sphere" size=".1" pos="{x} .7 .1" rgba="{color} 1"/></worldbody></mujoco>"""


def scene(color: str, x: float = 0.0) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(SCENE.format(x=x, color=color))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def simulated(task: str) -> tuple[mujoco.MjModel, mujoco.MjData]:
    env = MetaworldEnv(task)
    env.restart(seed=0)
    assert env._simulation is not None
    return env._simulation.model, env._simulation.data


@pytest.mark.render
def test_a_red_ball_is_seen_in_the_middle_and_the_right_way_up() -> None:
    model, data = scene("1 0 0")
    renderer = SceneRenderer(model, width=48, height=32)
    picture = renderer.render(data, "corner").astype(int)
    assert picture.shape == (32, 48, 3)
    redness = picture[..., 0] - picture[..., 2]
    row, column = np.argwhere(redness > 60).mean(axis=0)
    assert abs(column - 24) < 4
    assert 12 < row < 24  # a little below the point that the camera looks at
    assert picture[0].mean() < picture[-1].mean()  # black beyond the end of the floor, floor at the bottom
    renderer.close()


@pytest.mark.render
@pytest.mark.parametrize(
    "task", ["pick-place", "drawer-open", *(pytest.param(t, marks=pytest.mark.slow) for t in OTHERS)]
)
def test_leaving_out_what_is_out_of_view_changes_no_pixel(task: str) -> None:
    model, data = simulated(task)
    culled, complete = (SceneRenderer(model, width=64, height=48) for _ in range(2))
    complete._can_hide = np.zeros(model.ngeom, bool)
    hidden = 0
    for name in VIEWS:
        np.testing.assert_array_equal(culled.render(data, name), complete.render(data, name), name)
        hidden += culled._out_of_view(data).sum()
    assert hidden > 20
    culled.close()
    complete.close()


@pytest.mark.render
def test_at_96_pixels_fewer_triangles_are_hard_to_tell_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = simulated("pick-place")
    fast = SceneRenderer(model, width=96, height=96)
    monkeypatch.setattr("envs.rendering.simplify_meshes", lambda model, cell: None)
    exact = SceneRenderer(model, width=96, height=96)
    assert exact._model.mesh_facenum.sum() == model.mesh_facenum.sum()  # the simulated model keeps its meshes
    assert fast._model.mesh_facenum.sum() < model.mesh_facenum.sum() / 3
    for name in ("corner", "gripper"):
        one, two = (renderer.render(data, name).astype(int) for renderer in (fast, exact))
        assert (np.abs(one - two).max(axis=-1) > 16).mean() < 0.03
    fast.close()
    exact.close()


@pytest.mark.render
def test_full_quality_is_mujocos_own_picture() -> None:
    model, data = simulated("push")
    ours = SceneRenderer(model, width=60, height=40, shadows=True)
    with mujoco.Renderer(model, height=40, width=60) as theirs:
        for name, camera in (("gripper", "gripperPOV"), ("corner2", "corner2")):
            theirs.update_scene(data, camera=camera)
            expected = theirs.render()
            if name == "corner2":
                expected = expected[::-1, ::-1]  # the stock corner cameras hang upside down
            assert np.abs(ours.render(data, name).astype(int) - expected).mean() < 2
    ours.close()


@pytest.mark.render
def test_renderers_that_take_turns_do_not_disturb_each_other() -> None:
    (red_model, red_data), (blue_model, blue_data) = scene("1 0 0"), scene("0 0 1", x=0.2)
    red = SceneRenderer(red_model, width=32, height=32)
    alone = red.render(red_data, "corner")
    blue = SceneRenderer(blue_model, width=64, height=16)
    first = blue.render(blue_data, "corner")
    with mujoco.Renderer(blue_model, height=20, width=20) as other_library:
        other_library.update_scene(blue_data)
        other_library.render()
        np.testing.assert_array_equal(red.render(red_data, "corner"), alone)
        np.testing.assert_array_equal(blue.render(blue_data, "corner"), first)
    blue.close()
    np.testing.assert_array_equal(red.render(red_data, "corner"), alone)
    red.close()


@pytest.mark.render
def test_a_closed_renderer_says_so_and_closes_twice() -> None:
    model, data = scene("1 0 0")
    renderer = SceneRenderer(model, width=16, height=16)
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match="after close"):
        renderer.render(data, "corner")


@pytest.mark.render
def test_a_process_that_closes_nothing_ends_without_a_word() -> None:
    lines = """
from envs.metaworld import MetaworldEnv
envs = [MetaworldEnv("reach", width=16, height=16) for _ in range(2)]
for env in envs:
    env.reset(seed=0)
del envs[0], env
MetaworldEnv("push", width=16, height=16).reset(seed=0)
"""
    child = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


@pytest.mark.render
def test_rendering_after_a_fork_is_refused_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = scene("1 0 0")
    renderer = SceneRenderer(model, width=16, height=16)
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="spawn"):
            renderer.render(data, "corner")
    renderer.close()


def in_picture(view: FreeView, point: np.ndarray, field_of_view: float = 45.0) -> bool:
    """Whether a square picture of the view holds the point."""
    azimuth, elevation = np.deg2rad((view.azimuth, view.elevation))
    forward = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
    )
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    offset = point - (np.array(view.lookat) - view.distance * forward)
    edge = (offset @ forward) * np.tan(np.deg2rad(field_of_view / 2))
    return abs(offset @ right) < edge and abs(offset @ np.cross(right, forward)) < edge


@pytest.mark.parametrize(
    "task", ["reach", "push", "pick-place", "drawer-open", "button-press-topdown", "window-open"]
)
def test_corner_and_side_views_hold_hand_object_and_goal_at_every_start(task: str) -> None:
    env = MetaworldEnv(task)
    for seed in range(10):
        env.restart(seed=seed)
        state = env.privileged_state()
        for name in ("corner", "side"):
            view = VIEWS[name]
            assert isinstance(view, FreeView)
            # The fingers hang 4 cm below the hand, whose home is outside the picture in some tasks.
            points = state[:3] - (0.0, 0.0, 0.045), state[4:7], state[36:]
            assert [in_picture(view, point) for point in points] == [True, True, True], (name, seed)
