"""A restored environment goes on as if what followed the snapshot had never happened."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from envs.aloha import TASKS as ALOHA_TASKS
from envs.aloha import AlohaEnv
from envs.aloha_experts import make_expert as make_aloha_expert
from envs.metaworld import MetaworldEnv
from envs.metaworld_experts import make_expert as make_metaworld_expert
from envs.metaworld_tasks import MT10, MT50
from envs.pusht import PushTEnv
from envs.pusht_expert import PushTExpert
from envs.simulated import Expert, SimulatedEnv
from envs.so101 import SO101Env
from envs.so101_expert import make_expert as make_so101_expert

Make = Callable[..., SimulatedEnv]

CASES: dict[str, tuple[Make, Callable[[], Expert]]] = {
    **{task: (partial(MetaworldEnv, task), partial(make_metaworld_expert, task)) for task in MT50},
    "reach-pushed": (partial(MetaworldEnv, "reach", pushed=True), partial(make_metaworld_expert, "reach")),
    **{task: (partial(AlohaEnv, task), partial(make_aloha_expert, task)) for task in ALOHA_TASKS},
    "push-t": (PushTEnv, PushTExpert),
    **{
        task: (partial(SO101Env, task), partial(make_so101_expert, task))
        for task in ("reach-cube", "memory-3", "modeling-3", "perception-3-held-out", "reasoning-3")
    },
}
SLOW = {task for task in MT50 if task not in MT10}
every_case = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)


def make(case: str, **arguments: Any) -> tuple[SimulatedEnv, Expert]:
    make_env, make_expert = CASES[case]
    env = make_env(terminate_on_success=False, **arguments)
    assert isinstance(env, SimulatedEnv)
    return env, make_expert()


def wander(env: SimulatedEnv, expert: Expert, steps: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The expert's actions with noise, so that objects are touched, and what `replay` gives for them."""
    rng = np.random.default_rng(seed)
    low, high = env.action_space.low, env.action_space.high
    noise = (0.01 if env.actions_are_targets else 0.35) * np.asarray(high - low, np.float64)
    actions, rows = [], [replay(env, [])]
    for _ in range(steps):
        action = expert.act(env.privileged_state()) + rng.normal(0.0, noise)
        actions.append(np.clip(action, low, high).astype(np.float32))
        rows.append(replay(env, actions[-1:])[1:])
    return actions, np.concatenate(rows)


def replay(env: SimulatedEnv, actions: list[np.ndarray]) -> np.ndarray:
    """States and rewards that follow the actions, the present state first."""
    rows = [np.append(env.privileged_state(), 0.0)]
    for action in actions:
        reward, *_ = env.advance(action)
        rows.append(np.append(env.privileged_state(), reward))
    return np.stack(rows)


@every_case
def test_the_same_actions_give_the_same_states_and_rewards(case: str) -> None:
    env, expert = make(case)
    env.restart(seed=3)
    wander(env, expert, 60, seed=0)
    snapshot = env.snapshot()
    actions, first = wander(env, expert, 25, seed=1)
    assert len(np.unique(first[:, :-1], axis=0)) == 26
    env.restore(snapshot)
    np.testing.assert_array_equal(replay(env, actions), first)
    # After another episode too: a reset moves what does not move within an episode.
    env.restart(seed=4)
    expert.reset()
    wander(env, expert, 10, seed=2)
    env.restore(snapshot)
    np.testing.assert_array_equal(replay(env, actions), first)


@every_case
def test_taking_a_snapshot_and_restoring_it_at_once_changes_nothing(case: str) -> None:
    (disturbed, expert), (untouched, _) = make(case), make(case)
    for env in (disturbed, untouched):
        env.restart(seed=5)
    actions, _ = wander(disturbed, expert, 30, seed=0)
    replay(untouched, actions)
    snapshot = disturbed.snapshot()
    disturbed.restore(snapshot)
    np.testing.assert_array_equal(replay(disturbed, actions), replay(untouched, actions))


@pytest.mark.render
@pytest.mark.parametrize("case", ["push", "drawer-open", "transfer-cube", "push-t", "reach-cube"])
def test_pictures_are_restored_bit_for_bit(case: str) -> None:
    env, expert = make(case)
    env.reset(seed=1)
    wander(env, expert, 25, seed=0)
    snapshot, before = env.snapshot(), env.observe()
    actions, _ = wander(env, expert, 10, seed=1)
    after = env.observe()
    env.reset(seed=2)
    env.restore(snapshot)
    for expected in (before, after):
        seen = env.observe()
        np.testing.assert_array_equal(seen["agent_pos"], expected["agent_pos"])
        for camera in env.cameras:
            np.testing.assert_array_equal(seen["pixels"][camera], expected["pixels"][camera])
        replay(env, actions)
    env.close()


@pytest.mark.parametrize("case", ["push", "insertion", "push-t", "reach-cube"])
def test_the_episode_ends_and_the_next_one_starts_as_they_would_have(case: str) -> None:
    env, _ = make(case, max_episode_steps=4)
    env.restart(seed=0)
    action = np.asarray(make(case)[1].act(env.privileged_state()), np.float32)
    env.advance(action)
    snapshot = env.snapshot()

    def rest() -> tuple[list[bool], np.ndarray]:
        ends = [env.advance(action)[2] for _ in range(3)]
        env.restart()
        return ends, env.privileged_state()

    ends, state = rest()
    env.restart(seed=9)
    env.restore(snapshot)
    again, state_again = rest()
    assert ends == again == [False, False, True]
    np.testing.assert_array_equal(state_again, state)


@pytest.mark.parametrize("case", ["push", "insertion", "push-t", "reach-cube"])
def test_a_snapshot_of_another_environment_is_refused(case: str) -> None:
    (one, _), (other, _) = make(case), make(case)
    with pytest.raises(RuntimeError, match="before"):
        one.snapshot()
    for env in (one, other):
        env.restart(seed=0)
    with pytest.raises(ValueError, match="snapshot of another environment"):
        one.restore(other.snapshot())
