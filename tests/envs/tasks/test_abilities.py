import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tasks import ABILITIES, LEVELS, TASK_SETS

EVERY = (*TASK_SETS["abilities"], *TASK_SETS["abilities-held-out"])


def test_an_ability_has_three_levels_and_as_many_held_out() -> None:
    assert len(EVERY) == len(set(EVERY)) == 2 * len(LEVELS) * len(ABILITIES)
    assert TASK_SETS["memory"] == ("memory-1", "memory-2", "memory-3")
    assert TASK_SETS["memory-held-out"] == ("memory-1-held-out", "memory-2-held-out", "memory-3-held-out")


@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")
@pytest.mark.parametrize("task", EVERY)
@pytest.mark.render
def test_gymnasiums_checker_accepts_it(task: str) -> None:
    env = SO101Env(task, width=16, height=16)
    check_env(env, skip_render_check=True)
    env.close()


def trajectory(env: SO101Env, seed: int) -> np.ndarray:
    env.restart(seed=seed)
    expert, rows = make_expert(env.task), [env.privileged_state()]
    for _ in range(60):
        _, terminated, truncated, _ = env.advance(expert.act(env.privileged_state()))
        rows.append(env.privileged_state())
        if terminated or truncated:
            break
    return np.stack(rows)


@pytest.mark.parametrize("task", EVERY)
def test_a_seed_replays_bit_for_bit_after_another_episode(task: str) -> None:
    fresh, used = SO101Env(task), SO101Env(task)
    trajectory(used, seed=3)
    np.testing.assert_array_equal(trajectory(used, seed=7), trajectory(fresh, seed=7))
    assert used.task_description == fresh.task_description


@pytest.mark.parametrize("task", EVERY)
def test_rewards_are_named_and_at_most_one(task: str) -> None:
    env = SO101Env(task)
    env.restart(seed=0)
    reward, _, _, info = env.advance(env._running().numbers())
    assert reward == pytest.approx(sum(info["rewards"].values()))
    assert 0.0 <= reward <= 1.0
