import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.client import Disconnected, Refused
from embodied.serving.inference import Target
from embodied.serving.local import LocalPolicy
from embodied.serving.specification import to_plain
from tests.serving.fakes import POLICY, ROBOT

FOLDER = str(Path(__file__).parent)
TARGET = Target(function="waving_runner:waving", arguments={"specification": to_plain(POLICY)})


@pytest.fixture(autouse=True)
def _children_find_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FOLDER, prepend=os.pathsep)


@pytest.fixture
def policy() -> Iterator[LocalPolicy]:
    local = LocalPolicy(TARGET, robot=ROBOT)
    yield local
    local.close()


def ask(policy: LocalPolicy, *, task: str = "wave", deadline: float = 20.0, at: float = 3.0) -> np.ndarray:
    state = np.array([at, 0, 0, 0, 0, 0], np.float32)
    images = {"front": np.zeros((2, 3, 3), np.uint8)}
    return policy.act(images=images, state=state, task=task, age=0.0, deadline=deadline).decision.actions


def test_it_decides_as_its_policy(policy: LocalPolicy) -> None:
    assert policy.offer.specification == POLICY
    assert ask(policy)[:, 0].tolist() == [3.0 + step for step in range(10)]


def test_an_answer_that_is_late_is_dropped_and_the_next_one_is_its_own(policy: LocalPolicy) -> None:
    with pytest.raises(Refused, match="expired"):
        ask(policy, task="sleep 0.5", deadline=0.1, at=9.0)
    assert ask(policy, at=4.0)[0, 0] == 4.0


def test_a_killed_policy_is_noticed(policy: LocalPolicy) -> None:
    os.kill(policy.pid, signal.SIGKILL)
    with pytest.raises(Disconnected, match="gone"):
        ask(policy)


def test_a_policy_that_does_not_fit_is_refused_before_it_is_asked() -> None:
    with pytest.raises(UserError, match="fps"):
        LocalPolicy(TARGET, robot=replace(ROBOT, fps=50.0))


def test_closing_ends_the_process(policy: LocalPolicy) -> None:
    policy.close()
    with pytest.raises(ProcessLookupError):
        os.kill(policy.pid, 0)
