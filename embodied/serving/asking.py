"""Asks a policy in a thread of its own, so that the control thread never waits for it.

The control thread leaves a question, of which the latest counts, and picks up what has happened since. A
policy that cannot be reached is tried again and again; one that does not fit is not.

H chunk steps, P steps left, A joints.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embodied.errors import UserError
from embodied.serving.client import Disconnected, Refused
from embodied.serving.control import Look
from embodied.serving.wire import Answer, Offer

RETRY_SECONDS = 0.2
HOPELESS = ("token", "invalid", "specification")
"""Refusals that asking again does not change."""


class Connection(Protocol):
    """What `PolicyClient` offers; its methods block."""

    offer: Offer

    def act(
        self,
        *,
        images: dict[str, np.ndarray],
        state: np.ndarray,
        task: str,
        age: float,
        deadline: float,
        prefix: np.ndarray | None = None,
        delay: int = 0,
        reset: bool = False,
    ) -> Answer:
        """The decision on one look; `Refused` or `Disconnected` if there is none."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """A look and all that is known with it; see `Request`."""

    look: Look
    images: dict[str, np.ndarray]
    state: np.ndarray
    task: str
    prefix: np.ndarray | None = None
    delay: int = 0
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Connected:
    """There is a policy that fits."""

    offer: Offer


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The policy is gone."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Decided:
    """actions: (H, A), the answer to a question."""

    question: Question
    actions: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """The policy is there, but has no answer to a question."""

    question: Question
    reason: str


@dataclass(frozen=True, kw_only=True)
class Impossible:
    """There is no use in going on; `reason` is one line for the user."""

    reason: str


News = Connected | Lost | Decided | Unanswered | Impossible


class Asker:
    """The thread. `ask` and `news` are the control thread's and return at once."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        deadline: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """connect: makes a connection, or raises UserError, `Refused` or `Disconnected`.

        deadline: seconds after which an answer is not waited for any more; clock: that of the looks.
        """
        self._connect, self._deadline, self._clock = connect, deadline, clock
        self._closing = threading.Event()
        self._pause = pause or self._closing.wait
        self._changed = threading.Condition()
        self._question: Question | None = None
        self._news: deque[News] = deque()
        self._connection: Connection | None = None
        self._hopeless = False
        self.trouble = "no attempt yet"
        """Why the last attempt to connect has failed."""
        self._thread = threading.Thread(target=self._run, name="policy", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wait(self, seconds: float) -> News | None:
        """The first news, which stays among them; None if there is none for so long."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._news), seconds)
            return self._news[0] if self._news else None

    def ask(self, question: Question) -> None:
        """Leave a question; one that nobody has taken up is forgotten."""
        with self._changed:
            self._question = question
            self._changed.notify()

    def news(self) -> list[News]:
        """What has happened since the last call."""
        found = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def close(self) -> None:
        """End the session and the thread; a request under way is waited for, up to its deadline."""
        with self._changed:
            self._closing.set()
            self._changed.notify()
        self._thread.join()

    def step(self) -> None:
        """Connect, or answer one question if one comes within `RETRY_SECONDS`; what the thread repeats."""
        if self._connection is None:
            self._make_connection()
            return
        with self._changed:
            if self._question is None:
                self._changed.wait(RETRY_SECONDS)
            question, self._question = self._question, None
        if question is not None:
            self._answer(self._connection, question)

    def _run(self) -> None:
        try:
            while not (self._closing.is_set() or self._hopeless):
                self.step()
        except Exception as error:
            self._give_up(f"asking has failed: {error!r}")
            raise
        finally:
            if self._connection is not None:
                self._connection.close()

    def _make_connection(self) -> None:
        try:
            self._connection = self._connect()
        except UserError as error:
            self._give_up(str(error))
        except (Refused, Disconnected) as error:
            self.trouble = str(error)
            if isinstance(error, Refused) and error.code in HOPELESS:
                self._give_up(str(error))
            else:
                self._pause(RETRY_SECONDS)
        else:
            with self._changed:
                self._question = None  # it was asked before this connection
            self._tell(Connected(offer=self._connection.offer))

    def _give_up(self, reason: str) -> None:
        self._hopeless = True
        self._tell(Impossible(reason=reason))

    def _tell(self, news: News) -> None:
        with self._changed:
            self._news.append(news)
            self._changed.notify()

    def _answer(self, connection: Connection, question: Question) -> None:
        try:
            answer = connection.act(
                images=question.images,
                state=question.state,
                task=question.task,
                age=max(0.0, self._clock() - question.look.taken),
                deadline=self._deadline,
                prefix=question.prefix,
                delay=question.delay,
                reset=question.reset,
            )
        except Refused as error:
            self._tell(Unanswered(question=question, reason=str(error)))
        except Disconnected as error:
            self._connection = None
            connection.close()
            self._tell(Lost(reason=str(error)))
        else:
            self._tell(Decided(question=question, actions=answer.decision.actions))
