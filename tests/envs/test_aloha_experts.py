from typing import Any

import mujoco
import numpy as np
import pytest

from envs.aloha import HIGHEST, LOWEST, TASKS, AlohaEnv, load_model
from envs.aloha_arm import LEFT, RIGHT, pose, rotation
from envs.aloha_experts import InsertionPlan, TransferPlan, _mismatch, _squared, make_expert
from envs.aloha_hands import (
    FARTHEST,
    HOME,
    TIP,
    Hand,
    HandGoal,
    Thing,
    carry,
    fingertips,
    funnel,
    grip_at,
    turn_towards,
    yaw_of,
)
from envs.simulated import Expert

every_task = pytest.mark.parametrize("task", TASKS)
DOWN = rotation("y", np.pi / 2)


def run(env: AlohaEnv, expert: Expert, *, push: float = 0.0) -> tuple[bool, list[str], np.ndarray]:
    """Run an episode from the present state, its targets pushed now and then: success, sub-goals, actions."""
    rng, said, actions, offset, left = np.random.default_rng(0), [], [], np.zeros(14), 0
    while True:
        state = env.privileged_state()
        text = expert.stage(state)
        said += [text] if said[-1:] != [text] else []
        actions.append(expert.act(state))
        left -= 1
        if left < 0:
            is_pushed = rng.random() < 1 / 30
            offset = push * is_pushed * rng.standard_normal(14) * np.tile([1, 1, 1, 1, 1, 1, 0], 2)
            left = 7 if is_pushed else 0
        low, high = env.action_space.low, env.action_space.high
        _, terminated, truncated, info = env.advance(np.clip(actions[-1] + offset, low, high))
        if terminated or truncated:
            return info["is_success"], said, np.stack(actions)


@every_task
def test_the_expert_succeeds_with_smooth_valid_actions(task: str) -> None:
    env, expert = AlohaEnv(task), make_expert(task)
    for seed in range(3):
        env.restart(seed=seed)
        expert.reset()
        is_success, _, actions = run(env, expert)
        assert is_success
        assert all(env.action_space.contains(action) for action in actions)
        arms = np.delete(actions, (6, 13), axis=1)
        assert np.abs(np.diff(arms, axis=0)).max() < 0.05
        assert np.abs(np.diff(actions[:, (6, 13)], axis=0)).max() < 0.11


@pytest.mark.parametrize(("task", "plan"), [("transfer-cube", TransferPlan), ("insertion", InsertionPlan)])
def test_the_sub_goals_of_an_undisturbed_episode_come_once_and_in_order(task: str, plan: Any) -> None:
    env, expert = AlohaEnv(task, terminate_on_success=False, max_episode_steps=260), make_expert(task)
    env.restart(seed=0)
    _, said, _ = run(env, expert)
    assert said == list(plan.stages)


def test_the_cube_is_left_in_the_left_hand_alone() -> None:
    env = AlohaEnv("transfer-cube", terminate_on_success=False, max_episode_steps=260)
    env.restart(seed=1)
    assert run(env, make_expert("transfer-cube"))[0]
    touching = {one for one, two in env._running().contacts() if two == "red_box"}
    assert touching == {"vx300s_left/10_left_gripper_finger", "vx300s_left/10_right_gripper_finger"}


@every_task
def test_acting_is_repeatable_and_leaves_the_state_alone(task: str) -> None:
    env = AlohaEnv(task)
    env.restart(seed=0)
    state = env.privileged_state()
    before = state.copy()
    one, two = make_expert(task), make_expert(task)
    two.stage(state)
    two.act(state)
    two.reset()
    np.testing.assert_array_equal(one.act(state), two.act(state))
    np.testing.assert_array_equal(state, before)


def test_asking_for_the_sub_goal_changes_no_action() -> None:
    env = AlohaEnv("insertion")
    env.restart(seed=0)
    silent, asked = make_expert("insertion"), make_expert("insertion")
    for _ in range(90):
        state = env.privileged_state()
        asked.stage(state)
        asked.stage(state)
        action = silent.act(state)
        np.testing.assert_array_equal(asked.act(state), action)
        env.advance(action)


@every_task
def test_pushes_on_the_way_are_answered(task: str) -> None:
    env, expert = AlohaEnv(task), make_expert(task)
    successes = 0
    for seed in (0, 4, 5):
        env.restart(seed=seed)
        expert.reset()
        successes += run(env, expert, push=0.03)[0]
    assert successes >= 2


@pytest.mark.parametrize(("task", "thing"), [("transfer-cube", "red_box"), ("insertion", "red_peg")])
def test_a_dropped_thing_is_picked_up_again(task: str, thing: str) -> None:
    env, expert = AlohaEnv(task), make_expert(task)
    env.restart(seed=0)
    for _ in range(100):
        env.advance(expert.act(env.privileged_state()))
    data = env._running().data
    assert data.geom(thing).xpos[2] > 0.06  # it was lifted
    data.qpos[16:23] = (0.1, 0.55, 0.05, 1, 0, 0, 0)
    data.qvel[16:22] = 0
    is_success, said, _ = run(env, expert)
    assert said[0] == expert._plan.stages[0]
    assert is_success


@every_task
@pytest.mark.parametrize("yaw", [-0.5, 0.4])
def test_things_that_lie_askew_are_gripped_along_their_sides(task: str, yaw: float) -> None:
    env, expert = AlohaEnv(task), make_expert(task)
    env.restart(seed=2)
    things = env._running().data.qpos[16:].reshape(-1, 7)
    things[:, 3:] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
    assert run(env, expert)[0]


def test_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="'fold-towel': expected one of transfer-cube, insertion"):
        make_expert("fold-towel")


def test_the_arms_kinematics_are_those_of_the_simulated_model_and_invert() -> None:
    model = load_model("insertion")
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    low, high = np.array(LOWEST[:6]), np.array(HIGHEST[:6])
    low[1:3], high[1:3] = (-0.4, -0.2), (0.5, 1.2)  # the elbow up, the wrist in front of the foot
    for _ in range(50):
        joints = rng.uniform(low, high, (2, 6))
        data.qpos[:6], data.qpos[8:14] = joints
        mujoco.mj_kinematics(model, data)
        for arm, name, row in zip((LEFT, RIGHT), ("left", "right"), joints, strict=True):
            body = data.body(f"vx300s_{name}/gripper_link")
            np.testing.assert_allclose(
                arm.gripper_pose(row), pose(body.xpos, body.xmat.reshape(3, 3)), atol=1e-5
            )
            near = row + rng.normal(0.0, 0.01, 6)
            np.testing.assert_allclose(arm.joints(arm.gripper_pose(row), near), row, atol=1e-6)


def test_a_stretched_wrist_keeps_the_first_of_two_rolls_that_do_the_same() -> None:
    joints = np.array((0.2, -0.5, 0.6, 0.7, 0.0, -0.3))
    near = np.array((0.2, -0.5, 0.6, 0.8, 0.0, -0.3))
    found = LEFT.joints(LEFT.gripper_pose(joints), near)
    np.testing.assert_allclose(found, (0.2, -0.5, 0.6, 0.8, 0.0, -0.4), atol=1e-6)


def test_out_of_reach_the_arm_stretches_towards_the_goal() -> None:
    shoulder, up_and_forward = np.array((-0.469, 0.5, 0.12705)), rotation("y", -np.pi / 4)
    goal = pose(shoulder + 2.0 * up_and_forward[:, 0], up_and_forward)
    reached = LEFT.gripper_pose(LEFT.joints(goal, HOME))[:3, 3]
    # Shoulder to wrist 0.6059 m at most, then 7 cm to the gripper.
    np.testing.assert_allclose(reached, shoulder + 0.6756 * up_and_forward[:, 0], atol=1e-3)


def test_the_funnel_waits_behind_the_grip_until_the_hand_is_over_it_and_open() -> None:
    goal = grip_at(np.array((0.0, 0.0, 0.1)), DOWN)
    aside = grip_at(np.array((0.05, 0.0, 0.3)), DOWN)
    above = grip_at(np.array((0.0, 0.0, 0.3)), DOWN)
    np.testing.assert_allclose(fingertips(funnel(aside, goal, gap=0.07)), (0, 0, 0.1 + FARTHEST), atol=1e-9)
    np.testing.assert_allclose(fingertips(funnel(above, goal, gap=0.07)), (0, 0, 0.1), atol=1e-9)
    np.testing.assert_allclose(fingertips(funnel(above, goal, gap=0.0)), (0, 0, 0.1 + FARTHEST), atol=1e-9)


def test_a_hand_carries_what_it_holds_where_it_holds_it() -> None:
    thing, gripper = pose((0.1, 0.0, 0.0), np.eye(3)), pose((0.1, 0.0, 0.14), DOWN)
    goal = pose((0.0, 0.5, 0.2), rotation("z", np.pi / 2))
    carried = carry(thing, goal, gripper)
    np.testing.assert_allclose(carried[:3, 3], (0.0, 0.5, 0.34), atol=1e-12)
    np.testing.assert_allclose(carried[:3, :3], rotation("z", np.pi / 2) @ DOWN, atol=1e-12)


def test_a_thing_is_held_when_the_fingers_have_closed_on_it() -> None:
    peg, place = Thing(width=0.02, half_length=0.05), pose((0.0, 0.0, 0.0), np.eye(3))
    at_its_end, beyond = (grip_at(np.array((x, 0.0, 0.0)), DOWN) for x in (0.05, 0.09))
    assert peg.is_held(place, at_its_end, 0.0205)
    assert not peg.is_held(place, at_its_end, 0.06)  # open
    assert not peg.is_held(place, at_its_end, 0.0)  # closed on nothing
    assert not peg.is_held(place, beyond, 0.0205)
    assert fingertips(at_its_end)[0] == pytest.approx(0.05)
    assert at_its_end[2, 3] == pytest.approx(TIP)


def test_a_hand_speeds_up_slows_down_and_arrives() -> None:
    hand, joints, goal = Hand(), HOME.copy(), HandGoal(joints=HOME + 0.3, opening=1.0)
    steps = []
    for _ in range(60):
        target = hand.follow(goal, joints)
        steps.append(np.abs(target[:6] - joints).max())
        joints = target[:6]
    assert steps[0] == pytest.approx(0.003)
    assert max(steps) == pytest.approx(goal.speed)
    assert np.abs(np.diff(steps)).max() < 0.007
    np.testing.assert_allclose(joints, goal.joints, atol=1e-3)
    assert target[6] == pytest.approx(1.0)


def test_a_hand_that_is_held_up_does_not_run_ahead() -> None:
    hand, goal = Hand(), HandGoal(joints=HOME + 1.0, opening=1.0)
    for _ in range(100):
        target = hand.follow(goal, HOME)
    assert np.abs(target[:6] - HOME).max() <= 0.2 + goal.speed


def test_peg_and_socket_are_compared_along_the_sockets_axis() -> None:
    socket = pose((0.0, 0.5, 0.2), np.eye(3))
    assert _mismatch(socket, pose((0.1, 0.503, 0.204), np.eye(3))) == pytest.approx((0.005, 0.1))
    turned = pose((0.1, 0.5, 0.2), rotation("z", np.pi + 0.1))  # a peg has no front
    assert _mismatch(socket, turned) == pytest.approx((0.005, 0.1))


def test_directions_are_found_modulo_the_things_symmetry() -> None:
    assert yaw_of(np.array((0.0, 1.0, 0.0)), np.pi / 2) == pytest.approx(0.0)
    assert yaw_of(rotation("z", 0.3)[:, 0], np.pi) == pytest.approx(0.3)
    assert yaw_of(-rotation("z", 0.3)[:, 0], np.pi) == pytest.approx(0.3)


def test_a_cube_is_squared_by_the_smallest_turn() -> None:
    quarter = rotation("z", np.pi / 2)
    np.testing.assert_allclose(_squared(quarter @ rotation("x", 0.3)), quarter, atol=1e-12)
    axis = rotation("z", 0.4)[:, 0]
    np.testing.assert_allclose(turn_towards(axis, np.eye(3)[0]), rotation("z", -0.4), atol=1e-12)
