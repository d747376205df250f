"""Simulated time: decisions come when they should, and everything runs the same again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embodied.serving.asking import Connected, Decided, Question, Unanswered
from embodied.serving.control import Look
from embodied.serving.runner import NullRunner
from embodied.serving.virtual import VirtualAsker, VirtualClock, VirtualRobot
from envs.so101 import SO101Env
from envs.tabletop import HOME
from tests.serving.fakes import POLICY


def asked(
    clock: VirtualClock, delay: Callable[[int], float], count: int = 1
) -> tuple[VirtualAsker, Question]:
    asker = VirtualAsker(NullRunner(POLICY), clock, mode="reactive", delay=delay, deadline=1.0)
    question = Question(
        look=Look(taken=clock(), begin=0),
        images={"front": np.zeros((2, 3, 3), np.uint8)},
        state=np.arange(6, dtype=np.float32),
        task="",
    )
    assert [type(news) for news in asker.news()] == [Connected]
    for _ in range(count):
        asker.ask(question)
    return asker, question


def test_a_decision_comes_when_its_delay_is_over() -> None:
    clock = VirtualClock()
    asker, question = asked(clock, lambda number: 0.1)
    clock.sleep(0.09)
    assert asker.news() == []
    clock.sleep(0.01)
    (news,) = asker.news()
    assert isinstance(news, Decided)
    assert news.question is question
    assert news.actions.tolist() == [[0, 1, 2, 3, 4, 5]] * 10
    assert asker.news() == []


def test_each_question_has_a_delay_of_its_own_and_none_waits_beyond_the_deadline() -> None:
    clock = VirtualClock()
    asker, _ = asked(clock, [0.0, 5.0].__getitem__, count=2)
    assert [type(news) for news in asker.news()] == [Decided]
    clock.sleep(0.999)
    assert asker.news() == []
    clock.sleep(0.001)
    assert [type(news) for news in asker.news()] == [Unanswered]


def wave(seed: int, action: dict[str, Any] | None = None) -> tuple[VirtualRobot, list[list[float]]]:
    clock = VirtualClock()
    robot = VirtualRobot(SO101Env(max_episode_steps=5), clock)
    robot.reset(seed)
    seen = []
    while not robot.is_over:
        look = robot.get_observation()
        seen.append(list(look.values()))
        robot.send_action({**look, "shoulder_pan.pos": look["shoulder_pan.pos"] + 1.0})
        clock.sleep(0.1)
    return robot, seen


def test_a_command_is_one_step_and_a_seed_runs_the_same_again() -> None:
    robot, seen = wave(3)
    assert len(robot.commands) == 5
    assert np.diff(robot.times) == pytest.approx([0.1] * 4)
    assert [list(command[1:]) for command in robot.commands] == [look[1:] for look in seen]
    assert seen[-1][0] > seen[0][0]
    assert robot.start.tolist() == seen[0]
    assert abs(robot.start - np.array(HOME)).max() <= 10.0
    assert wave(3)[1] == seen
    assert wave(4)[1] != seen


def test_after_the_end_nothing_moves() -> None:
    robot, _ = wave(3)
    before = robot.get_observation()
    robot.send_action({**before, "shoulder_pan.pos": 0.0})
    assert robot.get_observation() == before
    assert len(robot.commands) == 5


@pytest.mark.render
def test_pictures_are_taken_when_they_are_looked_at() -> None:
    robot = VirtualRobot(SO101Env(width=16, height=16), VirtualClock())
    robot.reset(0)
    seen = robot.get_observation()
    assert "front" not in seen
    assert seen["front"].shape == (16, 16, 3)
    assert replace(POLICY).cameras.keys() <= seen.keys()
