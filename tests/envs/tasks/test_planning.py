import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from embodied.evaluation.necessity import outcomes
from envs.skills import HOLD
from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tasks.planning import (
    BLOCKER,
    FIRST,
    IS_OPEN,
    LID_HEIGHT,
    LID_STEPS,
    OCCUPANT,
    PLANS,
    SIZE,
    SLOTS,
    TARGETS,
    Planning,
)

EPISODES = 12


def begun(task: str, **settings: object) -> SO101Env:
    env = SO101Env(task, **settings)
    env.restart(seed=0)
    return env


def press(env: SO101Env, monkeypatch: pytest.MonkeyPatch, steps: int = HOLD) -> dict:
    """Let the gripper be at the button until it is pressed, and away from it for a step."""
    world = env._running()
    monkeypatch.setattr(world, "pinch", lambda: world.position("button"))
    info = [env.advance(world.numbers()) for _ in range(steps)][-1][3]
    monkeypatch.undo()
    if not env._is_over:
        env.advance(world.numbers())
    return info


def test_a_press_opens_the_lid_and_the_next_one_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    env = begun("planning-1")
    world = env._running()
    lid = world.model.body("lid").geomadr[0]
    assert world.position("lid")[2] == pytest.approx(world.position("box")[2] + LID_HEIGHT)
    assert world.model.geom_contype[lid] == 1
    press(env, monkeypatch)
    for _ in range(LID_STEPS):
        env.advance(world.numbers())
    assert env._goal.numbers[IS_OPEN] == 1.0
    assert world.model.geom_contype[lid] == 0
    assert np.linalg.norm((world.position("lid") - world.position("box"))[:2]) > 0.08
    press(env, monkeypatch)
    assert env._goal.numbers[IS_OPEN] == 0.0


def test_a_button_has_to_be_held_and_left_before_it_is_pressed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    env = begun("planning-1")
    press(env, monkeypatch, HOLD - 1)
    assert env._goal.numbers[IS_OPEN] == 0.0
    press(env, monkeypatch, 3 * HOLD)
    assert env._goal.numbers[IS_OPEN] == 1.0


def test_a_button_on_which_a_cube_stands_cannot_be_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    env = begun("planning-2")
    press(env, monkeypatch)
    assert env._goal.numbers[IS_OPEN] == 0.0
    env._running().place(BLOCKER, (0.22, 0.0, 0.2))
    press(env, monkeypatch)
    assert env._goal.numbers[IS_OPEN] == 1.0


@pytest.mark.parametrize(("is_emptied", "is_success"), [(True, True), (False, False)])
def test_the_lid_has_to_close_over_the_right_cubes_alone(
    is_emptied: bool, is_success: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = begun("planning-3")
    world = env._running()
    world.place(BLOCKER, (0.3, 0.0, SIZE))
    press(env, monkeypatch)
    world.place(FIRST, world.position("box") + SLOTS[0])
    world.place(OCCUPANT, (0.16, 0.0, SIZE) if is_emptied else world.position("box") + SLOTS[1])
    assert press(env, monkeypatch)["is_success"] == is_success


@pytest.mark.parametrize("split", ["", "-held-out"])
@pytest.mark.parametrize("level", PLANS)
def test_only_who_knows_the_order_succeeds(level: int, split: str) -> None:
    task = f"planning-{level}{split}"
    assert outcomes((task, "expert", range(EPISODES))).count("1") >= EPISODES - 2
    assert outcomes((task, "blind", range(EPISODES))).count("1") <= EPISODES * 0.6


def test_the_longest_chain_has_six_stages() -> None:
    lengths = [len(Planning(level, held_out)._plan) for held_out in (False, True) for level in PLANS]
    assert lengths == [3, 4, 5, 4, 5, 6]


@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
@pytest.mark.render
def test_gymnasiums_checker_accepts_the_version_with_a_picture_of_the_goal() -> None:
    env = SO101Env("planning-picture-1", cameras=("front", "goal"), width=16, height=16)
    check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.render
def test_the_picture_of_the_goal_stays_and_changes_nothing() -> None:
    env = begun("planning-picture-2", cameras=("front", "goal"))
    other = begun("planning-picture-2")
    pictures = env.observe()["pixels"]
    assert np.abs(pictures["goal"].astype(int) - pictures["front"]).max() > 50
    expert, same = make_expert(env.task), make_expert(env.task)
    for _ in range(30):
        env.advance(expert.act(env.privileged_state()))
        other.advance(same.act(other.privileged_state()))
    np.testing.assert_array_equal(env.privileged_state(), other.privileged_state())
    env.restore(env.snapshot())  # draws it again
    np.testing.assert_array_equal(env.observe()["pixels"]["goal"], pictures["goal"])
    env.close()


def test_the_picture_is_all_that_tells_the_cube() -> None:
    told = {begun("planning-picture-1").task_description for _ in range(2)}
    assert not any(color in text for text in told for color in ("red", "blue", "yellow", "green"))


def test_a_task_without_such_a_picture_has_no_camera_for_it() -> None:
    with pytest.raises(ValueError, match=r"camera 'goal' in task 'memory-1': expected a task that shows"):
        SO101Env("memory-1", cameras=("front", "goal"))


def test_subgoals_call_a_cube_by_its_color(monkeypatch: pytest.MonkeyPatch) -> None:
    env = begun("planning-1")
    press(env, monkeypatch)
    color = next(color for color in TARGETS if f"{color} cube" in env.task_description)
    while (said := make_expert(env.task).stage(env.privileged_state())) == "wait for the lid":
        env.advance(env._running().numbers())
    assert said == f"reach for the {color} cube"
