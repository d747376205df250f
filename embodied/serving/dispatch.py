"""From the sessions' requests to inference and back: one line, one batch at a time, nobody waited for."""

import asyncio
import time

from embodied.serving.connections import Session
from embodied.serving.inference import Inference, InferenceDied, Job
from embodied.serving.metrics import Metrics
from embodied.serving.scheduling import Line, Waiting
from embodied.serving.wire import Ask


class Dispatcher:
    """Knows the open sessions; `run` decides for them.

    most: requests decided together.
    """

    def __init__(self, inference: Inference, metrics: Metrics, *, most: int) -> None:
        self._inference, self._metrics, self._most = inference, metrics, most
        self._line = Line()
        self._has_work = asyncio.Event()
        self._deciding = False
        self.sessions: dict[str, Session] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is decided, or is still to be sent."""
        mail = any(session.has_mail for session in self.sessions.values())
        return not (len(self._line) or self._deciding or mail)

    def add(self, session: Session) -> None:
        """A session may ask from now on."""
        self.sessions[session.name] = session
        self._metrics.sessions.set(len(self.sessions))

    def remove(self, name: str) -> None:
        """A session has ended; what it asked is forgotten."""
        self._line.leave(name)
        self.sessions.pop(name, None)
        self._metrics.sessions.set(len(self.sessions))

    def submit(self, session: Session, ask: Ask, frame: bytes) -> None:
        """Put a request, known to fit the policy, in line; an older one of the session makes way."""
        if session.name not in self.sessions:  # dismissed, and asking until it reads so
            self.refuse(session, "unavailable", "the session has ended", ask.sequence)
            return
        if ask.sequence <= session.last_sequence:
            self.refuse(session, "invalid", f"sequence: expected above {session.last_sequence}", ask.sequence)
            return
        session.last_sequence = ask.sequence
        session.owes_reset |= ask.request.reset
        prefix = None if ask.request.prefix is None else ask.request.prefix.shape
        now = time.monotonic()
        request = Waiting(
            session=session.name,
            sequence=ask.sequence,
            frame=frame,
            group=(session.mode, session.candidates, prefix, ask.request.delay),
            arrived=now,
            expires=now + ask.deadline,
        )
        older = self._line.join(request)
        if older is not None:
            self.refuse(session, "superseded", "a newer request took its place", older.sequence)
        self._has_work.set()

    def refuse(self, session: Session, code: str, reason: str, sequence: int | None) -> None:
        """Count and tell why there is no decision."""
        self._metrics.requests.labels(code).inc()
        session.fail(code, reason, sequence)

    async def run(self) -> None:
        """Decide until cancelled."""
        while True:
            await self._has_work.wait()
            for request in self._line.expire(time.monotonic()):
                self._refuse_waiting(request, "expired", "the deadline passed in the queue")
            batch = self._line.take(self._most)
            if not batch:
                self._has_work.clear()
                continue
            self._deciding = True
            try:
                await self._decide(batch)
            finally:
                self._deciding = False

    async def _decide(self, batch: list[Waiting]) -> None:
        begun = time.monotonic()
        jobs = []
        for request in batch:
            session = self.sessions[request.session]
            queued = begun - request.arrived
            jobs.append(Job(frame=request.frame, queued=queued, reset=session.owes_reset))
            session.owes_reset = False
            self._metrics.queued.observe(queued)
        self._metrics.batch.observe(len(batch))
        try:
            outcomes = await self._inference.act(jobs)
        except InferenceDied as error:
            for request in batch:
                self._refuse_waiting(request, "unavailable", str(error))
            return
        now = time.monotonic()
        for request, job, (is_answer, frame) in zip(batch, jobs, outcomes, strict=True):
            session = self.sessions.get(request.session)
            if session is None:
                continue
            session.post(session.dialect.answer(frame))
            session.owes_reset |= job.reset and not is_answer
            self._metrics.requests.labels("answered" if is_answer else "invalid").inc()
            self._metrics.served.observe(now - request.arrived)

    def _refuse_waiting(self, request: Waiting, code: str, reason: str) -> None:
        session = self.sessions.get(request.session)
        if session is not None:
            self.refuse(session, code, reason, request.sequence)
