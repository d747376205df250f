import sys
from collections import defaultdict
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

from envs.metaworld import MetaworldEnv
from envs.metaworld_experts import make_expert
from envs.metaworld_stages import STAGES, STEPS_TO_GO_BACK, StageProgress
from envs.metaworld_tasks import MT10, MT50

OTHERS = tuple(task for task in MT50 if task not in MT10)
# All fifty are checked by `pytest -m slow`, ten of them in every run.
TASKS = [*MT10, *(pytest.param(task, marks=pytest.mark.slow) for task in OTHERS)]
every_task = pytest.mark.parametrize("task", TASKS)


class LastLine:
    """Records which line of a function ran last: the branch that it took."""

    def __init__(self, code: CodeType) -> None:
        self.code, self.line = code, 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not self.code:
            return None
        if event == "line":
            self.line = frame.f_lineno
        return self


@every_task
def test_the_expert_succeeds_with_valid_actions(task: str) -> None:
    env, expert = MetaworldEnv(task, max_episode_steps=500), make_expert(task)
    successes = 0
    for seed in range(3):
        env.restart(seed=seed)
        is_over, info = False, {}
        while not is_over:
            action = expert.act(env.privileged_state())
            assert env.action_space.contains(action)
            _, terminated, truncated, info = env.advance(action)
            is_over = terminated or truncated
        successes += info["is_success"]
    assert successes >= 2


@pytest.mark.parametrize("task", MT50)
def test_acting_leaves_the_state_alone(task: str) -> None:
    state = np.linspace(0.0, 0.8, 39)
    make_expert(task).act(state)
    np.testing.assert_array_equal(state, np.linspace(0.0, 0.8, 39))


def test_reaching_ends_with_the_fingertips_in_the_middle_of_the_goal() -> None:
    env, expert = (
        MetaworldEnv("reach", terminate_on_success=False, max_episode_steps=150),
        make_expert("reach"),
    )
    for seed in range(3):
        env.restart(seed=seed)
        for _ in range(150):
            env.advance(expert.act(env.privileged_state()))
        data = env._simulation.data
        fingertips = (data.site("leftEndEffector").xpos + data.site("rightEndEffector").xpos) / 2
        assert np.linalg.norm(fingertips - env.privileged_state()[36:]) < 0.02


# These two have their branches elsewhere, or none.
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=() if task in MT10 else pytest.mark.slow)
        for task in MT50
        if task not in ("drawer-open", "soccer")
    ],
)
def test_the_sub_goal_follows_the_branches_of_the_policy(task: str) -> None:
    env, expert = MetaworldEnv(task, max_episode_steps=150), make_expert(task)
    policy = type(expert._policy)
    tracer = LastLine(getattr(policy, "_desired_pos", policy.get_action).__code__)
    texts = defaultdict(set)
    for seed in range(2):
        env.restart(seed=seed)
        is_over = False
        while not is_over:
            state = env.privileged_state()
            previous = sys.gettrace()
            sys.settrace(tracer)
            action = expert.act(state)
            sys.settrace(previous)
            texts[tracer.line].add(STAGES[task](state))
            _, terminated, truncated, _ = env.advance(action)
            is_over = terminated or truncated
    assert {line: len(said) for line, said in texts.items()} == dict.fromkeys(texts, 1)


def test_opening_a_drawer_has_three_sub_goals() -> None:
    env, expert = MetaworldEnv("drawer-open"), make_expert("drawer-open")
    env.restart(seed=0)
    said: dict[str, None] = {}
    is_over = False
    while not is_over:
        state = env.privileged_state()
        said[expert.stage(state)] = None
        is_over = env.advance(expert.act(state))[1]
    assert list(said) == [
        "move above the drawer handle",
        "lower to the drawer handle",
        "pull the drawer open",
    ]


def test_every_task_has_a_sub_goal_rule() -> None:
    assert set(STAGES) == set(MT50)


def words(state: np.ndarray) -> str:
    return ("rise", "move", "lower")[int(state[0])]


def said(progress: StageProgress, indices: list[int]) -> list[str]:
    return [progress.stage(np.array([float(index)])) for index in indices]


def test_a_sub_goal_goes_forward_at_once_and_ignores_a_short_way_back() -> None:
    assert said(StageProgress(words), [0, 1, 0, 1, 2, 0, 2]) == [
        "rise", "move", "move", "move", "lower", "lower", "lower",
    ]  # fmt: skip


def test_a_sub_goal_goes_back_once_it_has_lasted() -> None:
    back = said(StageProgress(words), [0, 1, *[0] * STEPS_TO_GO_BACK])[2:]
    assert back == ["move"] * (STEPS_TO_GO_BACK - 1) + ["rise"]


def test_a_new_episode_forgets_the_sub_goals_of_the_last() -> None:
    progress = StageProgress(words)
    said(progress, [0, 1])
    progress.reset()
    assert said(progress, [1, 0]) == ["move", "rise"]
