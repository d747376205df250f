"""Processes that record episodes side by side; their episodes come back in the order of the jobs.

No worker outlives the collection: it ends with the connection to the main process, however that one died.
Worker processes import this module, so it stays free of torch and LeRobot.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from embodied.data.behaviours import EpisodeJob, RecordedEpisode, Recorder
from embodied.errors import UserError
from embodied.rollout import hidden_main_module

JOBS_PER_WORKER = 2
"""One in hand and one to go on with, while the main process writes an episode."""

EPISODES_AHEAD = 4
"""Per worker: how far the others may get while one draws an episode again and again."""


class WorkerDied(Exception):
    """A worker process ended without being asked to."""


class RecordingError(Exception):
    """The simulator, its renderer or an expert failed; `details` is the traceback."""

    def __init__(self, message: str, details: str) -> None:
        """message: one line that names the episode."""
        super().__init__(message, details)
        self.details = details

    def __str__(self) -> str:
        return self.args[0]


def record_episodes(
    jobs: Sequence[EpisodeJob], make_recorder: Callable[[], Recorder], workers: int
) -> Generator[RecordedEpisode]:
    """Yield the recorded episodes in the order of `jobs`; a single worker is this process itself.

    make_recorder: picklable.

    Raises:
        UserError: a job that cannot be done, once the episodes before are out, as for the next.
        RecordingError: the simulation failed.
        WorkerDied: a worker process was killed or broke down.
    """
    if workers == 1:
        with closing(make_recorder()) as recorder:
            for job in jobs:
                yield _unpack(_record(recorder, job))
        return
    with _open_workers(make_recorder, workers) as crew:
        yield from map(_unpack, _Crew(crew, jobs).outcomes())


Outcome = RecordedEpisode | UserError | RecordingError


@dataclass(kw_only=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    jobs: int = 0


@contextmanager
def _open_workers(make_recorder: Callable[[], Recorder], count: int) -> Iterator[list[_Worker]]:
    # Spawned, not forked: each worker needs an OpenGL context of its own.
    context = multiprocessing.get_context("spawn")
    crew: list[_Worker] = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, make_recorder), daemon=True)
            with hidden_main_module(), _signals_ignored():
                process.start()
            theirs.close()
            crew.append(_Worker(process=process, connection=cast(Connection, ours)))
        yield crew
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()
            worker.connection.close()


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """What is started in here never sees an interrupt from the keyboard: the main process ends it."""
    try:
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@dataclass
class _Crew:
    """Hands out the jobs and puts the episodes back into order."""

    workers: list[_Worker]
    jobs: Sequence[EpisodeJob]
    handed_out: int = 0
    received: dict[int, Outcome] = field(default_factory=dict)

    def outcomes(self) -> Iterator[Outcome]:
        for wanted in range(len(self.jobs)):
            self._hand_out(wanted)
            while wanted not in self.received:
                self._receive()
                self._hand_out(wanted)
            yield self.received.pop(wanted)

    def _hand_out(self, wanted: int) -> None:
        """Give every worker enough to do, to those with the least first."""
        limit = min(len(self.jobs), wanted + EPISODES_AHEAD * len(self.workers))
        while self.handed_out < limit:
            worker = min(self.workers, key=lambda worker: worker.jobs)
            if worker.jobs >= JOBS_PER_WORKER:
                return
            with _death_reported(worker):
                worker.connection.send((self.handed_out, self.jobs[self.handed_out]))
            worker.jobs += 1
            self.handed_out += 1

    def _receive(self) -> None:
        """Wait for the next outcome of any worker."""
        ready = wait([worker.connection for worker in self.workers])
        for worker in self.workers:
            if worker.connection in ready:
                with _death_reported(worker):
                    number, outcome = worker.connection.recv()
                worker.jobs -= 1
                self.received[number] = outcome


@contextmanager
def _death_reported(worker: _Worker) -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise WorkerDied(f"a recording process {how}") from error


def _work(connection: Connection, make_recorder: Callable[[], Recorder]) -> None:
    """Record whatever is asked for until the main process is gone.

    An episode is sent by a thread, so that recording goes on while the main process is busy writing.
    """
    sending: Future[None] | None = None
    with closing(make_recorder()) as recorder, ThreadPoolExecutor(1) as sender:
        try:
            while True:
                number, job = connection.recv()
                outcome = _record(recorder, job)
                if sending is not None:
                    sending.result()
                sending = sender.submit(_send, connection, number, outcome)
        except (EOFError, ConnectionError):
            return


def _send(connection: Connection, number: int, outcome: Outcome) -> None:
    """Send an outcome, or end this process: the main process waits for the one or the other."""
    try:
        connection.send((number, outcome))
    except ConnectionError:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _record(recorder: Recorder, job: EpisodeJob) -> Outcome:
    try:
        return recorder.record(job)
    except UserError as error:
        return error
    except Exception as error:
        # Only text is sure to survive the way between processes.
        what = traceback.format_exception_only(error)[0].splitlines()[0]
        return RecordingError(
            f"{job.task}, {job.behaviour} episode {job.index}: {what}", traceback.format_exc()
        )


def _unpack(outcome: Outcome) -> RecordedEpisode:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
