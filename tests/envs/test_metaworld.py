import pickle
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.chunk import ChunkWrapper
from envs.metaworld import PUSH_BEGINS, PUSH_STEPS, REGIONS, MetaworldEnv
from envs.metaworld_experts import make_expert
from envs.metaworld_tasks import INSTRUCTIONS, MT10, MT50

OTHERS = tuple(task for task in MT50 if task not in MT10)
NO_ACTION = np.zeros(4, np.float32)
# All fifty are checked by `pytest -m slow`, ten of them in every run.
TASKS = [*MT10, *(pytest.param(task, marks=pytest.mark.slow) for task in OTHERS)]
every_task = pytest.mark.parametrize("task", TASKS)


def random_action(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, 4).astype(np.float32)


def trajectory(env: MetaworldEnv, seed: int, steps: int) -> np.ndarray:
    """States and rewards of an episode of the expert's actions, every third replaced by a random one."""
    rng, expert = np.random.default_rng(0), make_expert(env.task)
    env.restart(seed=seed)
    rows = [np.append(env.privileged_state(), 0.0)]
    for step in range(steps):
        action = expert.act(env.privileged_state()) if step % 3 else random_action(rng)
        reward, *_ = env.advance(action)
        rows.append(np.append(env.privileged_state(), reward))
    return np.stack(rows)


def site_position(env: MetaworldEnv, name: str) -> np.ndarray:
    assert env._simulation is not None
    return env._simulation.data.site(name).xpos.copy()


@pytest.mark.render
@every_task
def test_gymnasiums_checker_accepts_the_environment(task: str) -> None:
    env = MetaworldEnv(task, width=16, height=16)
    check_env(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    env.close()


@every_task
def test_a_seed_replays_bit_for_bit_after_another_episode(task: str) -> None:
    fresh, used = (MetaworldEnv(task, max_episode_steps=500, terminate_on_success=False) for _ in range(2))
    trajectory(used, seed=3, steps=120)
    np.testing.assert_array_equal(trajectory(used, seed=7, steps=40), trajectory(fresh, seed=7, steps=40))


@pytest.mark.render
def test_the_pictures_of_a_seed_replay_bit_for_bit() -> None:
    fresh, used = MetaworldEnv("pick-place"), MetaworldEnv("pick-place")
    rng = np.random.default_rng(0)
    used.reset(seed=1)
    for _ in range(20):
        used.step(random_action(rng))
    pictures = [env.reset(seed=5)[0]["pixels"] for env in (fresh, used)]
    for camera in ("corner", "gripper"):
        np.testing.assert_array_equal(pictures[0][camera], pictures[1][camera])


@every_task
def test_each_reset_draws_the_scene_afresh_from_the_seed(task: str) -> None:
    env = MetaworldEnv(task)
    env.restart(seed=0)
    states = [env.privileged_state()]
    for seed in (1, None, 0):
        env.restart(seed=seed)
        states.append(env.privileged_state())
    assert len({state.tobytes() for state in states[:3]}) == 3
    np.testing.assert_array_equal(states[3], states[0])


def test_numpys_global_generator_is_neither_read_nor_moved() -> None:
    env = MetaworldEnv("push")
    np.random.seed(1)
    env.restart(seed=0)
    first = env.privileged_state()
    np.random.seed(2)
    before = np.random.get_state()[1]
    env.restart(seed=0)
    np.testing.assert_array_equal(env.privileged_state(), first)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("task", ["reach", "push", "pick-place", "drawer-open", "window-open"])
def test_the_first_picture_shows_the_goal_where_the_state_says_it_is(task: str) -> None:
    env = MetaworldEnv(task)
    for seed in range(3):
        env.restart(seed=seed)
        np.testing.assert_allclose(site_position(env, "goal"), env.privileged_state()[36:], atol=1e-6)


@every_task
def test_nothing_jumps_in_the_first_step(task: str) -> None:
    env = MetaworldEnv(task)
    env.restart(seed=0)
    before = env.privileged_state()
    env.advance(NO_ACTION)
    np.testing.assert_allclose(env.privileged_state(), before, atol=0.02)


@pytest.mark.render
def test_the_observation_is_pictures_of_the_asked_size_and_the_hand() -> None:
    env = MetaworldEnv("reach", cameras=("side", "top", "corner"), width=40, height=24)
    observation, info = env.reset(seed=0)
    assert list(observation["pixels"]) == ["side", "top", "corner"]
    assert {picture.shape for picture in observation["pixels"].values()} == {(24, 40, 3)}
    assert info == {"is_success": False}
    hand = env._simulation.data.body("hand").xpos
    assert observation["agent_pos"].dtype == np.float32
    np.testing.assert_allclose(observation["agent_pos"][:3], hand, atol=1e-6)
    np.testing.assert_array_equal(env.render(), observation["pixels"]["side"])
    env.close()


def test_the_gripper_number_is_one_open_and_falls_as_it_closes() -> None:
    env = MetaworldEnv("reach")
    env.restart(seed=0)
    opening = [env.privileged_state()[3]]
    for _ in range(20):
        env.advance(np.array([0, 0, 0, 1], np.float32))
        opening.append(env.privileged_state()[3])
    assert opening[0] > 0.95
    assert opening[-1] < 0.5


def test_an_action_of_one_moves_the_hand_a_centimetre_at_most() -> None:
    env = MetaworldEnv("reach")
    env.restart(seed=0)
    before = env.privileged_state()[0]
    for _ in range(20):
        env.advance(np.array([1, 0, 0, 0], np.float32))
    assert 0.1 < env.privileged_state()[0] - before <= 0.2


def test_an_episode_is_truncated_at_its_limit_and_then_refuses_to_go_on() -> None:
    env = MetaworldEnv("reach", max_episode_steps=3)
    env.restart(seed=0)
    ends = [env.advance(NO_ACTION)[1:3] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(RuntimeError, match="call reset first"):
        env.advance(NO_ACTION)
    env.restart()
    env.advance(NO_ACTION)


def test_the_longest_episode_has_500_steps() -> None:
    env = MetaworldEnv("reach", max_episode_steps=500)
    env.restart(seed=0)
    ends = [env.advance(NO_ACTION)[1:3] for _ in range(500)]
    assert ends[498:] == [(False, False), (False, True)]


def run_expert(env: MetaworldEnv) -> list[tuple[bool, bool, bool]]:
    expert = make_expert(env.task)
    env.restart(seed=0)
    steps: list[tuple[bool, bool, bool]] = []
    while not steps or not any(steps[-1][:2]):
        _, terminated, truncated, info = env.advance(expert.act(env.privileged_state()))
        steps.append((terminated, truncated, info["is_success"]))
    return steps


def test_success_terminates_the_episode() -> None:
    steps = run_expert(MetaworldEnv("reach"))
    assert steps[-1] == (True, False, True)
    assert not any(is_success for *_, is_success in steps[:-1])


def test_success_can_be_left_to_go_on() -> None:
    steps = run_expert(MetaworldEnv("reach", terminate_on_success=False, max_episode_steps=90))
    assert len(steps) == 90
    assert steps[-1] == (False, True, True)


def test_advance_does_not_render() -> None:
    env = MetaworldEnv("reach")
    env.restart(seed=0)
    env.advance(NO_ACTION)
    assert env._renderer is None


def test_the_instruction_can_be_replaced() -> None:
    assert MetaworldEnv("reach").task_description == INSTRUCTIONS["reach"]
    assert MetaworldEnv("reach", instruction="touch it").task_description == "touch it"
    assert MetaworldEnv("reach-v3").task == "reach"


def visual_model(task: str, goal_color: tuple[float, float, float] | None) -> dict[str, Any]:
    """Everything in the compiled model that a picture can depend on, but for where the goal is."""
    env = MetaworldEnv(task, goal_color=goal_color)
    env.restart(seed=0)
    model = env._simulation.model
    names = [
        name for name in dir(mujoco.MjModel) if name.split("_")[0] in ("geom", "site", "mat", "tex", "light")
    ]
    fields = {name: getattr(model, name) for name in names if name not in ("site_pos", "site")}
    return {name: value.tolist() for name, value in fields.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("task", ["reach", "drawer-open", "button-press-topdown"])
def test_a_region_is_a_half_of_where_the_last_position_is_drawn(task: str) -> None:
    drawn = {}
    for region in REGIONS:
        env = MetaworldEnv(task, region=region)
        positions = []
        for seed in range(30):
            env.restart(seed=seed)
            assert env._simulation is not None
            positions.append(env._simulation._env._last_rand_vec[-3])
        drawn[region] = positions
    assert max(drawn["left"]) <= 0 <= min(drawn["right"])
    assert min(drawn["all"]) < -0.05 < 0.05 < max(drawn["all"])


def test_a_push_carries_the_hand_away_once_and_replays() -> None:
    def path(pushed: bool) -> np.ndarray:
        env = MetaworldEnv("reach", pushed=pushed, terminate_on_success=False)
        env.restart(seed=3)
        hands = [env.privileged_state()[:3]]
        for _ in range(80):
            env.advance(NO_ACTION)
            hands.append(env.privileged_state()[:3])
        return np.stack(hands)

    still, pushed = path(False), path(True)
    assert np.abs(still[-1] - still[0]).max() < 0.02
    assert np.abs(pushed[-1] - pushed[0]).max() > 0.08
    moving = np.flatnonzero(np.abs(np.diff(pushed, axis=0)).max(axis=1) > 0.004)
    assert PUSH_BEGINS[0] <= moving[0] <= PUSH_BEGINS[1]
    assert moving[-1] - moving[0] < 3 * PUSH_STEPS
    assert np.array_equal(pushed, path(True))


def test_one_goal_colour_makes_reach_push_and_pick_place_look_alike() -> None:
    reach, push, pick_place = (
        visual_model(task, (0.9, 0.8, 0.1)) for task in ("reach", "push", "pick-place")
    )
    assert len(reach) > 40
    assert reach == push == pick_place
    own = [visual_model(task, None) for task in ("reach", "push", "pick-place")]
    assert [name for name in own[0] if own[0][name] != own[1][name]] == ["site_rgba"]
    assert own[1]["site_rgba"] != own[2]["site_rgba"]


@pytest.mark.render
def test_an_environment_can_be_sent_to_worker_processes() -> None:
    def make() -> ChunkWrapper:
        return ChunkWrapper(MetaworldEnv("drawer-open", width=16, height=16), 3)

    local, chunk = make(), np.zeros((3, 4), np.float32)
    vector = gym.vector.AsyncVectorEnv([partial(ChunkWrapper, make().env, 3)] * 2, context="forkserver")
    observation, _ = vector.reset(seed=[4, 5])
    for row, seed in enumerate((4, 5)):
        expected, _ = local.reset(seed=seed)
        np.testing.assert_array_equal(observation["pixels"]["corner"][row], expected["pixels"]["corner"])
        np.testing.assert_array_equal(observation["agent_pos"][row], expected["agent_pos"])
    observation, *_, info = vector.step(np.stack([chunk, chunk]))
    expected = local.step(chunk)[0]
    np.testing.assert_array_equal(observation["pixels"]["corner"][1], expected["pixels"]["corner"])
    assert info["steps"].tolist() == [3, 3]
    vector.close()
    local.close()


def test_a_new_environment_can_be_pickled() -> None:
    env = pickle.loads(pickle.dumps(MetaworldEnv("push", max_episode_steps=50)))
    env.restart(seed=0)
    assert (env.task, env._max_episode_steps) == ("push", 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "reach,push"}, "expected one task"),
        ({"task": "raech"}, "'raech'.*reach"),
        ({"cameras": ("corner", "roof")}, "'roof': expected one of corner, side"),
        ({"cameras": ()}, "one or more"),
        ({"cameras": ("corner", "corner")}, "each once"),
        ({"width": 4}, "4 x 96 pixels"),
        ({"region": "middle"}, "'middle': expected one of all, left, right"),
        ({"max_episode_steps": 501}, "max_episode_steps=501: expected 1 to 500"),
        ({"max_episode_steps": 0}, "max_episode_steps=0"),
        ({"goal_color": (1.0, 2.0, 0.0)}, "three numbers from 0 to 1"),
        ({"goal_color": (1.0, 0.0)}, "three numbers from 0 to 1"),
        ({"render_mode": "human"}, "'human'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaworldEnv(**({"task": "reach"} | arguments))
