import pickle
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.chunk import ChunkWrapper
from envs.so101 import ARM, SO101Env
from envs.so101_arm import (
    ARM_XML,
    HIGHEST,
    LOWEST,
    Kinematics,
    attach_arm,
    joint_numbers,
    joint_radians,
)
from envs.so101_expert import make_expert
from envs.tabletop import HIGH, HOME, LOW
from envs.tasks import make_task
from envs.tasks.reach_cube import closeness

DOWN = np.array(((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)))


def wandering_actions(steps: int) -> np.ndarray:
    walk = np.random.default_rng(0).normal(0.0, 3.0, (steps, 6)).cumsum(axis=0)
    return np.clip(HOME + walk, LOWEST, HIGHEST).astype(np.float32)


def trajectory(env: SO101Env, seed: int, steps: int) -> np.ndarray:
    env.restart(seed=seed)
    rows = [np.append(env.privileged_state(), 0.0)]
    for action in wandering_actions(steps):
        reward, *_ = env.advance(action)
        rows.append(np.append(env.privileged_state(), reward))
    return np.stack(rows)


def hold(env: SO101Env, target: tuple[float, ...], steps: int) -> np.ndarray:
    for _ in range(steps):
        env.advance(np.array(target, np.float32))
    return joint_numbers(env.privileged_state()[ARM])


# The checker would have actions between -1 and 1; ours are degrees, as of LeRobot's so101_follower.
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
@pytest.mark.render
def test_gymnasiums_checker_accepts_the_environment() -> None:
    env = SO101Env(width=16, height=16)
    check_env(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    env.close()


def test_the_joints_are_where_the_published_model_has_them() -> None:
    """With all joints at zero, as computed from TheRobotStudio's file, without shifts along the axes."""
    model = mujoco.MjModel.from_xml_path(str(ARM_XML))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    expected = {
        "shoulder_pan": ((0.0388, 0.0, 0.0624), (0, 0, -1)),
        "shoulder_lift": ((0.0692, 0.0, 0.1166), (0, 1, 0)),
        "elbow_flex": ((0.0972, 0.0, 0.2292), (0, 1, 0)),
        "wrist_flex": ((0.2321, 0.0, 0.2344), (0, 1, 0)),
        "wrist_roll": ((0.2932, 0.0, 0.2344), (-1, 0, 0)),
    }
    for name, (place, axis) in expected.items():
        np.testing.assert_allclose(data.joint(name).xanchor, place, atol=1e-4)
        np.testing.assert_allclose(data.joint(name).xaxis, axis, atol=1e-6)
    np.testing.assert_allclose(data.site("tip").xpos, (0.3914, 0.0, 0.2265), atol=1e-4)
    assert model.body_mass.sum() == pytest.approx(0.632, abs=1e-3)


def test_an_attached_arm_keeps_its_ranges() -> None:
    scene = mujoco.MjSpec()
    attach_arm(scene, prefix="left_", place=(0.0, 0.3, 0.0))
    model = scene.compile()
    np.testing.assert_allclose(model.jnt_range, joint_radians(np.array([LOWEST, HIGHEST])).T, atol=1e-6)
    np.testing.assert_allclose(model.actuator_ctrlrange, model.jnt_range, rtol=1e-12)
    assert model.joint(0).name == "left_shoulder_pan"


def test_a_scene_in_radians_would_get_a_wrong_arm_and_is_refused() -> None:
    scene = mujoco.MjSpec.from_string("<mujoco><compiler angle='radian'/></mujoco>")
    with pytest.raises(ValueError, match="expected one in degrees"):
        attach_arm(scene)


def test_a_gripper_is_closed_at_0_and_open_at_100() -> None:
    radians = joint_radians(np.array([[90.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 100], [0, 0, 0, 0, 0, 50]]))
    np.testing.assert_allclose(np.rad2deg(radians[:, 5]), (-10, 100, 45))
    assert radians[0, 0] == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(joint_numbers(radians)[:, 5], (0, 100, 50))


def test_positive_numbers_turn_the_joints_the_way_the_real_arm_turns() -> None:
    """Pan to the robot's right; lift, elbow and wrist bend forward and down."""
    arm = Kinematics()
    at_zero, _ = arm.pinch(np.array([0.0, 0, 0, 0, 0, 50]))
    turned, _ = arm.pinch(np.array([90.0, 0, 0, 0, 0, 50]))
    assert turned[1] < -0.3
    for joint in (1, 2, 3):
        bent, _ = arm.pinch(np.eye(6)[joint] * 20.0)
        assert bent[2] < at_zero[2] - 0.02


def test_inverse_kinematics_finds_joints_that_bring_the_gripper_there() -> None:
    arm = Kinematics()
    for place in ((0.2, 0.05, 0.05), (0.25, -0.08, 0.03)):
        pan = np.arctan2(place[1], place[0] - 0.0388353)
        turn = np.array(((np.cos(pan), -np.sin(pan), 0), (np.sin(pan), np.cos(pan), 0), (0, 0, 1)))
        joints = arm.joints(np.array(place), turn @ DOWN, near=np.array(HOME))
        found, rotation = arm.pinch(joints)
        np.testing.assert_allclose(found, place, atol=5e-4)
        np.testing.assert_allclose(rotation, turn @ DOWN, atol=0.02)
        assert joints[5] == HOME[5]


def test_inverse_kinematics_stays_within_the_joints_ranges_where_it_cannot_reach() -> None:
    joints = Kinematics().joints(np.array((0.6, 0.3, 0.0)), DOWN, near=np.array(HOME))
    assert np.all(joints[:5] >= np.array(LOWEST[:5]) - 1e-6)
    assert np.all(joints[:5] <= np.array(HIGHEST[:5]) + 1e-6)


def test_the_arm_goes_to_the_targets_and_sags_little() -> None:
    env = SO101Env(max_episode_steps=1000)
    env.restart(seed=0)
    target = (30.0, -60.0, 20.0, 40.0, -80.0, 10.0)
    np.testing.assert_allclose(hold(env, target, 90), target, atol=1.5)


def test_a_target_beyond_a_range_counts_as_its_end() -> None:
    env = SO101Env(max_episode_steps=1000)
    env.restart(seed=0)
    joints = hold(env, (500.0, -60.0, 20.0, 40.0, 0.0, 500.0), 90)
    np.testing.assert_allclose(joints[[0, 5]], (110.0, 100.0), atol=1.5)


def test_a_seed_replays_bit_for_bit_after_another_episode() -> None:
    fresh, used = (SO101Env(terminate_on_success=False) for _ in range(2))
    trajectory(used, seed=3, steps=40)
    np.testing.assert_array_equal(trajectory(used, seed=7, steps=30), trajectory(fresh, seed=7, steps=30))


def test_each_reset_draws_cube_and_arm_afresh_in_their_ranges() -> None:
    env = SO101Env()
    env.restart(seed=0)
    states = [env.privileged_state()]
    for _ in range(30):
        env.restart()
        states.append(env.privileged_state())
    assert len({state.tobytes() for state in states}) == 31
    places = np.stack(states)[:, 6:8]
    assert np.all((places >= LOW) & (places <= HIGH))
    assert np.ptp(places, axis=0).min() > 0.05


def test_reaching_the_cube_is_a_success_and_ends_the_episode() -> None:
    env = SO101Env()
    env.restart(seed=1)
    action = np.array(HOME, np.float32)
    _, terminated, truncated, info = env.advance(action)
    assert (terminated, truncated, info["is_success"]) == (False, False, False)
    env._running().place("cube", env.landmarks()["gripper"] + (0.0, 0.0, 0.004))
    reward, terminated, truncated, info = env.advance(action)
    assert (terminated, truncated, info["is_success"]) == (True, False, True)
    assert reward == pytest.approx(closeness(0.0), abs=0.15)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.advance(action)


def test_an_episode_is_truncated_at_its_limit() -> None:
    env = SO101Env(max_episode_steps=3)
    env.restart(seed=0)
    ends = [env.advance(np.array(HOME, np.float32))[1:3] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_expert_reaches_the_cube_in_at_least_19_of_20_episodes() -> None:
    env, expert, successes = SO101Env(), make_expert("reach-cube"), 0
    for seed in range(20):
        info, is_over = env.restart(seed=seed), False
        expert.reset()
        while not is_over:
            action = expert.act(env.privileged_state())
            assert env.action_space.contains(action)
            _, terminated, truncated, info = env.advance(action)
            is_over = terminated or truncated
        successes += info["is_success"]
    assert successes >= 19


def test_standing_still_does_not_succeed() -> None:
    env = SO101Env()
    for seed in range(10):
        env.restart(seed=seed)
        assert not any(env.advance(np.array(HOME, np.float32))[3]["is_success"] for _ in range(20))


def test_the_expert_names_its_sub_goals_in_order() -> None:
    env, expert = SO101Env(), make_expert("reach-cube")
    env.restart(seed=0)
    stages, is_over = [], False
    while not is_over:
        stages.append(expert.stage(env.privileged_state()))
        _, terminated, truncated, _ = env.advance(expert.act(env.privileged_state()))
        is_over = terminated or truncated
    assert list(dict.fromkeys(stages)) == [
        "move the gripper over the cube",
        "lower the gripper around the cube",
    ]


@pytest.mark.render
def test_the_cube_is_seen_from_all_sides_and_by_the_wrist_once_it_is_reached() -> None:
    def red_pixels(camera: str) -> int:
        red, green, _ = np.moveaxis(env.observe()["pixels"][camera].astype(int), -1, 0)
        return np.count_nonzero((red > 90) & (green < 60))

    env, expert = (
        SO101Env(cameras=("front", "side", "top", "wrist"), width=64, height=64),
        make_expert("reach-cube"),
    )
    env.restart(seed=3)
    assert all(5 < red_pixels(camera) < 200 for camera in ("front", "side", "top"))
    while not env.advance(expert.act(env.privileged_state()))[1]:
        pass
    assert 50 < red_pixels("wrist") < 1500
    env.close()


@pytest.mark.render
def test_an_environment_can_be_sent_to_worker_processes() -> None:
    def make() -> ChunkWrapper:
        return ChunkWrapper(SO101Env(width=16, height=16), 3)

    local = make()
    vector = gym.vector.AsyncVectorEnv([partial(ChunkWrapper, make().env, 3)] * 2, context="forkserver")
    observation, _ = vector.reset(seed=[4, 5])
    expected, _ = local.reset(seed=5)
    np.testing.assert_array_equal(observation["pixels"]["front"][1], expected["pixels"]["front"])
    vector.close()
    local.close()


def test_a_new_environment_can_be_pickled() -> None:
    env = pickle.loads(pickle.dumps(SO101Env(max_episode_steps=50)))
    env.restart(seed=0)
    assert (env.task_description, env._max_episode_steps) == ("bring the gripper around the red cube", 50)


def test_the_scene_has_one_arm_and_one_cube() -> None:
    model = make_task("reach-cube").make_world().model
    assert (model.nq, model.nu) == (13, 6)


@pytest.mark.parametrize("action", [(np.nan,) * 6, (np.inf, 0, 0, 0, 0, 0), (1.0,), (1.0,) * 7])
def test_an_action_that_would_break_the_simulation_is_refused(action: tuple[float, ...]) -> None:
    env = SO101Env()
    env.restart(seed=0)
    with pytest.raises(ValueError, match="expected 6 finite numbers"):
        env.advance(np.array(action, np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "lift"}, "'lift': expected one of reach-cube"),
        ({"cameras": ("roof",)}, "'roof': expected one of front, side, top, wrist"),
        ({"cameras": ()}, "one or more"),
        ({"height": 4}, "96 x 4 pixels"),
        ({"max_episode_steps": 0}, "max_episode_steps=0: expected at least 1"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SO101Env(**arguments)
    with pytest.raises(ValueError, match="expected one of reach-cube"):
        make_expert("lift")
