import numpy as np
import pytest

from envs.pusht import BLOCK, PUSHER, PushTEnv
from envs.pusht_expert import AT_REST, PushTExpert, make_expert

GOING = {"go round the block", "go to the block"}
PUSHING = {"turn the block", "push the block towards its outline", "push the block into place"}


def run(seed: int, *, noise: float = 0.0, ask_first: bool = True) -> tuple[bool, np.ndarray, list[str]]:
    """Success, actions (L, 2) and sub-goals, each once, of an episode; noise: pixels, on executed actions."""
    env, expert, rng = PushTEnv(), make_expert("push-t"), np.random.default_rng(0)
    env.restart(seed=seed)
    actions, said, is_over, info = [], [""], False, {}
    while not is_over:
        state = env.privileged_state()
        stage = expert.stage(state) if ask_first else ""
        actions.append(expert.act(state))
        assert env.action_space.contains(actions[-1])
        stage = stage or expert.stage(state)
        said += [stage] * (stage != said[-1])
        _, terminated, truncated, info = env.advance(actions[-1] + noise * rng.standard_normal(2))
        is_over = terminated or truncated
    return info["is_success"], np.stack(actions), said[1:]


@pytest.mark.parametrize("seed", range(3))
def test_the_expert_succeeds_with_valid_actions(seed: int) -> None:
    is_success, actions, _ = run(seed)
    assert is_success
    assert len(actions) < 200


@pytest.mark.slow
def test_the_expert_succeeds_from_nearly_every_start() -> None:
    assert sum(run(seed)[0] for seed in range(1000, 1010)) >= 9


def test_the_expert_finds_its_way_when_its_actions_are_disturbed() -> None:
    assert run(0, noise=10.0)[0]


def test_an_episode_goes_to_the_block_and_pushes_it_into_place() -> None:
    _, _, said = run(0)
    assert said[0] in GOING
    assert said[-1] == "push the block into place"
    assert set(said) <= GOING | PUSHING


def test_actions_follow_from_the_states_whatever_was_asked_before() -> None:
    (_, first, said), (_, again, said_again) = run(1), run(1, ask_first=False)
    np.testing.assert_array_equal(first, again)
    assert said == said_again


def test_a_new_episode_forgets_the_plan_of_the_last() -> None:
    env, used, fresh = PushTEnv(), make_expert("push-t"), make_expert("push-t")
    env.restart(seed=0)
    used.act(env.privileged_state())
    env.restart(seed=1)
    used.reset()
    np.testing.assert_array_equal(used.act(env.privileged_state()), fresh.act(env.privileged_state()))


def test_acting_leaves_the_state_alone() -> None:
    env = PushTEnv()
    env.restart(seed=0)
    state = env.privileged_state()
    make_expert("push-t").act(state)
    np.testing.assert_array_equal(state, env.privileged_state())


def test_once_solved_the_block_is_left_where_it_is() -> None:
    env, expert = PushTEnv(terminate_on_success=False, max_episode_steps=400), make_expert("push-t")
    env.restart(seed=0)
    successes: list[bool] = []
    while sum(successes) < 30:
        *_, info = env.advance(expert.act(env.privileged_state()))
        successes.append(info["is_success"])
    assert successes == sorted(successes), "lost again"
    assert expert.stage(env.privileged_state()) == AT_REST


def test_a_block_that_was_moved_meanwhile_is_planned_for_anew() -> None:
    env = PushTEnv()
    env.restart(seed=0)
    state = env.privileged_state()
    moved = state.copy()
    moved[PUSHER] += 1.0
    moved[BLOCK] += (40.0, 30.0, 0.5)
    told, ignorant = make_expert("push-t"), make_expert("push-t")
    told.act(state)
    np.testing.assert_array_equal(told.act(moved), ignorant.act(moved))


def plan_of(expert: PushTExpert, state: np.ndarray) -> object:
    expert.act(state)
    return expert._plan


def test_a_plan_is_kept_while_nothing_comes_in_between() -> None:
    env, expert = PushTEnv(), make_expert("push-t")
    env.restart(seed=1)
    plans = []
    for _ in range(4):
        plans.append(plan_of(expert, env.privileged_state()))
        env.advance(expert.act(env.privileged_state()))
    assert all(plan is plans[0] for plan in plans)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="'pusht': expected push-t"):
        make_expert("pusht")
