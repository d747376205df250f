"""Inference in a process of its own: what it does, or its death, never blocks the server.

The child, `python -m embodied.serving.inference FD`, owns the policy. Parent and child exchange msgpack maps
behind their length over a socket pair, one reply per message, in order; requests and answers in them are
frames of `vla.v1` as they came. Nothing is pickled. When the child dies whoever waits is told
(`InferenceDied`), and it is started anew; when the parent dies the child reads the end of its socket and
leaves.
"""

import asyncio
import gc
import importlib
import itertools
import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from embodied.errors import UserError
from embodied.serving.runner import PolicyRunner
from embodied.serving.specification import Specification, from_plain, to_plain
from embodied.serving.strict_msgpack import Caps, unpack
from embodied.serving.wire import Answer, Ask, Failure, decode, encode, one_line, pack

logger = logging.getLogger(__name__)

CAPS = Caps(depth=6, entries=1024, values=8192, text=1 << 20)
BACKOFF_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Waits before it is started again, after so many deaths in a row; the last one from then on."""

STABLE_SECONDS = 30.0
"""A process that lived this long did not die of its start."""

EXIT_SECONDS = 2.0

NICENESS = 5
"""It may use every core; who answers robots, or drives one, comes first."""

_LENGTH = struct.Struct("<Q")
Message = dict[str, Any]


class InferenceDied(Exception):
    """The process that holds the policy is gone, and with it what the sessions remember."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What makes the policy, in the child: `module:function`, and arguments that JSON can write."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request of a batch. frame: an `Ask`; queued: seconds it waited; reset: forget the session first."""

    frame: bytes
    queued: float
    reset: bool


# --- the server's end -----------------------------------------------------------------------------


class Inference:
    """The child as the server sees it. `run` keeps one alive.

    timeout: seconds after which a batch has hung, and the child is killed; died: called at every death;
    generation: how many have been started.
    """

    specification: Specification

    def __init__(self, target: Target, *, timeout: float, died: Callable[[], None]) -> None:
        self._target, self._timeout, self._died = target, timeout, died
        self._replies: deque[asyncio.Future[Message]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_loaded = False
        self.generation = 0

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self._is_loaded

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the child and wait until the policy is loaded; UserError if it cannot be."""
        if self._process is not None:  # the one before, whose socket has closed
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self.generation += 1
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        ours.setblocking(False)
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader, self._writer))
        arguments = json.dumps(self._target.arguments)
        reply = await self._send({"function": self._target.function, "arguments": arguments})
        if "error" in reply:
            await self.stop()
            raise UserError(reply["error"])
        self.specification = from_plain(reply["specification"])
        self._is_loaded = not self._reading.done()

    async def run(self) -> None:
        """Start the child again whenever it dies, until cancelled; `start` has been called."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            begun = loop.time()
            if self._reading is not None:
                await asyncio.wait([self._reading])
            self._died()
            deaths = 1 if loop.time() - begun > STABLE_SECONDS else deaths + 1
            await asyncio.sleep(BACKOFF_SECONDS[min(deaths, len(BACKOFF_SECONDS)) - 1])
            try:
                await self.start()
            except (InferenceDied, UserError) as error:
                logger.error("inference did not start: %s", error)

    async def open(self, session: str, mode: str, candidates: int) -> None:
        """Begin a session; UserError if the policy does not take it, InferenceDied without a policy."""
        reply = await self._ask({"open": session, "mode": mode, "candidates": candidates})
        if "error" in reply:
            raise UserError(reply["error"])

    def close(self, session: str) -> None:
        """End a session; the child is told, nobody waits for it."""
        with suppress(InferenceDied):
            self._ask({"close": session})

    async def act(self, jobs: list[Job]) -> list[tuple[bool, bytes]]:
        """Decide: for each job whether it was answered, and the frame of an `Answer` or a `Failure`.

        Raises InferenceDied if the child died of it, or hung and was killed.
        """
        message = {"act": [[job.frame, job.queued, job.reset] for job in jobs]}
        try:
            reply = await asyncio.wait_for(self._ask(message), self._timeout)
        except TimeoutError as error:
            logger.error("inference took longer than %g s and is killed", self._timeout)
            self.kill()
            raise InferenceDied(f"no decision within {self._timeout:g} s") from error
        return [(is_answer, bytes(frame)) for is_answer, frame in reply["answers"]]

    def kill(self) -> None:
        """End the child at once."""
        self._is_loaded = False
        if self._process is not None:
            self._process.kill()

    async def stop(self) -> None:
        """Let the child leave, by the end of its socket; kill it if it does not."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, EXIT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    def _ask(self, message: Message) -> asyncio.Future[Message]:
        if not self._is_loaded:
            raise InferenceDied("inference is starting")
        return self._send(message)

    def _send(self, message: Message) -> asyncio.Future[Message]:
        if self._writer is None:
            raise InferenceDied("the inference process has ended")
        data = pack(message)
        self._writer.write(_LENGTH.pack(len(data)))
        self._writer.write(data)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies.append(reply)
        return reply

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand out replies until the child is gone."""
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                reply = unpack(await reader.readexactly(length), CAPS)
                future = self._replies.popleft()
                if not future.done():
                    future.set_result(reply)  # pyright: ignore[reportArgumentType]
        except (asyncio.IncompleteReadError, ConnectionError):
            logger.error("the inference process has ended")
        finally:
            self._writer, self._is_loaded = None, False
            writer.close()
            while self._replies:
                future = self._replies.popleft()
                if not future.done():
                    future.set_exception(InferenceDied("the inference process has ended"))
                    future.exception()  # nobody may be waiting
            if self._process is not None:
                self._process.poll()


# --- the child ------------------------------------------------------------------------------------


def spare_cores() -> int:
    """How many cores inference uses: all but that of who answers, or ticks.

    A pass over several cores waits for the one that something else holds, so that one more costs the slowest
    decisions far more than it gives the usual ones.
    """
    return max(1, (os.cpu_count() or 1) - 1)


def main(descriptor: int) -> None:
    """Load the policy, then decide until the parent is gone."""
    os.nice(NICENESS)
    os.environ.setdefault("OMP_NUM_THREADS", str(spare_cores()))  # read when torch is imported
    with socket.socket(fileno=descriptor) as channel:
        target = _receive(channel)
        if target is None:
            return
        try:
            runner = _load(target["function"])(**json.loads(target["arguments"]))
        except UserError as error:
            _reply(channel, {"error": one_line(error)})
            return
        gc.collect()
        gc.freeze()  # a full collection of all that was imported would delay a decision
        _reply(channel, {"specification": to_plain(runner.specification)})
        while (message := _receive(channel)) is not None:
            _reply(channel, _done(runner, message))


def _load(function: str) -> Callable[..., PolicyRunner]:
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)


def _done(runner: PolicyRunner, message: Message) -> Message:
    match message:
        case {"open": session, "mode": mode, "candidates": candidates}:
            try:
                runner.open(session, mode, candidates)
            except UserError as error:
                return {"error": one_line(error)}
        case {"close": session}:
            runner.close(session)
        case {"act": jobs}:
            return {"answers": _answers(runner, [_job(*job) for job in jobs])}
    return {}


def _job(frame: memoryview, queued: float, reset: bool) -> tuple[Ask, float]:
    ask = decode(frame, len(frame))
    assert isinstance(ask, Ask)
    return replace(ask, request=replace(ask.request, reset=reset)), queued


def _answers(runner: PolicyRunner, jobs: list[tuple[Ask, float]]) -> list[tuple[bool, bytes]]:
    """Decide together; where one request spoils the batch, one by one, so that it spoils only itself."""
    try:
        decisions = runner.act([ask.request for ask, _ in jobs])
    except UserError as error:
        if len(jobs) > 1:
            return list(itertools.chain.from_iterable(_answers(runner, [job]) for job in jobs))
        failure = Failure(code="invalid", reason=one_line(error), sequence=jobs[0][0].sequence)
        return [(False, encode(failure))]
    return [
        (True, encode(Answer(sequence=ask.sequence, queued=queued, decision=decision)))
        for (ask, queued), decision in zip(jobs, decisions, strict=True)
    ]


def _receive(channel: socket.socket) -> Message | None:
    """The next message; None at the end."""
    head = _exactly(channel, _LENGTH.size)
    if head is None:
        return None
    data = _exactly(channel, _LENGTH.unpack(head)[0])
    return None if data is None else unpack(memoryview(data), CAPS)  # pyright: ignore[reportReturnType]


def _exactly(channel: socket.socket, length: int) -> bytearray | None:
    """So many bytes, None if the other end closes before, or is gone without having read all replies."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        try:
            read = channel.recv_into(view[at:])
        except ConnectionResetError:
            return None
        if read == 0:
            return None
        at += read
    return data


def _reply(channel: socket.socket, message: Message) -> None:
    data = pack(message)
    with suppress(BrokenPipeError):  # the parent is gone, as the next read tells
        channel.sendall(_LENGTH.pack(len(data)) + data)


if __name__ == "__main__":
    main(int(sys.argv[1]))
