from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.asking import Asker, Connected, Decided, Impossible, Lost, Question, Unanswered
from embodied.serving.client import Disconnected, Refused
from embodied.serving.control import Look
from embodied.serving.runner import Decision
from embodied.serving.wire import Answer
from tests.serving.fakes import OFFER, Clock

ACTIONS = np.ones((10, 6))


@dataclass
class FakeConnection:
    """Does, for each question, the next thing on its list: raise it, or answer."""

    script: list[Exception | None] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False
    offer = OFFER

    def act(self, **request: Any) -> Answer:
        self.asked.append(request)
        trouble = self.script.pop(0) if self.script else None
        if trouble is not None:
            raise trouble
        return Answer(sequence=1, queued=0.0, decision=Decision(actions=ACTIONS, seconds=0.0))

    def close(self) -> None:
        self.closed = True


def question(taken: float = 100.0, **more: Any) -> Question:
    look = Look(taken=taken, begin=0)
    return Question(look=look, images={}, state=np.zeros(6, np.float32), task="wave", **more)


def asker(connect: Callable[[], FakeConnection], clock: Clock | None = None) -> Asker:
    """Not started: tests take its steps themselves."""
    clock = clock or Clock()
    return Asker(connect, deadline=0.5, clock=clock, pause=clock.sleep)


def trying(*outcomes: Exception | FakeConnection) -> Callable[[], FakeConnection]:
    left = list(outcomes)

    def connect() -> FakeConnection:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return connect


def test_it_tries_until_there_is_a_server_and_then_tells() -> None:
    clock = Clock()
    it = asker(trying(Disconnected("refused"), Refused("busy", "full"), FakeConnection()), clock)
    it.step()
    it.step()
    assert it.news() == []
    assert it.trouble == "busy: full"
    it.step()
    assert it.news() == [Connected(offer=OFFER)]
    assert clock.now == pytest.approx(100.4)


@pytest.mark.parametrize("error", [UserError("fps: 50, not 30"), Refused("token", "wrong")])
def test_what_cannot_be_mended_is_told_once(error: Exception) -> None:
    it = asker(trying(error))
    it.step()
    assert it.news() == [Impossible(reason=str(error))]
    assert it.news() == []


def test_a_question_is_answered_with_its_age_and_deadline() -> None:
    clock, connection = Clock(now=100.2), FakeConnection()
    it = asker(trying(connection), clock)
    it.step()
    asked = question(taken=100.0, delay=2, reset=True)
    it.ask(asked)
    it.step()
    _, decided = it.news()
    assert isinstance(decided, Decided)
    assert decided.question is asked
    (request,) = connection.asked
    assert request["age"] == pytest.approx(0.2)
    assert (request["deadline"], request["delay"], request["reset"]) == (0.5, 2, True)


def test_of_several_questions_the_latest_counts() -> None:
    connection = FakeConnection()
    it = asker(trying(connection))
    it.step()
    it.ask(question(taken=1.0))
    it.ask(question(taken=2.0))
    it.step()
    assert len(connection.asked) == 1
    assert isinstance(it.news()[1], Decided)


def test_a_question_of_before_the_connection_is_forgotten() -> None:
    connection = FakeConnection()
    it = asker(trying(connection))
    it.ask(question())
    it.step()
    it.step()
    assert connection.asked == []


def test_no_answer_in_time_keeps_the_connection() -> None:
    connection = FakeConnection([Refused("expired", "no answer within 0.5 s")])
    it = asker(trying(connection))
    it.step()
    for _ in range(2):
        it.ask(question())
        it.step()
    _, missed, answered = it.news()
    assert isinstance(missed, Unanswered)
    assert isinstance(answered, Decided)
    assert not connection.closed


def test_a_lost_connection_is_closed_told_and_made_again() -> None:
    first, second = FakeConnection([Disconnected("gone")]), FakeConnection()
    it = asker(trying(first, second))
    it.step()
    it.ask(question())
    it.step()
    it.step()
    assert it.news() == [Connected(offer=OFFER), Lost(reason="gone"), Connected(offer=OFFER)]
    assert first.closed


def test_the_thread_itself_connects_answers_and_ends() -> None:
    connection = FakeConnection()
    it = Asker(trying(connection), deadline=0.5)
    it.start()
    assert it.wait(10.0) == Connected(offer=OFFER)
    it.ask(question())
    it.close()
    assert connection.closed
