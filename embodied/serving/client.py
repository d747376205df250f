"""The robot's end of `vla.v1`: connects, checks that the policy fits, asks, and never waits past a deadline.

Its methods block, so they belong in a thread or process of its own: a control loop never touches the network.
The socket is served by another thread, which answers the server's pings between requests; that one thread
does all of its reading and writing, since Python's TLS is not made for two.
"""

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from embodied.errors import UserError
from embodied.serving.runner import Request
from embodied.serving.specification import Specification, mismatch
from embodied.serving.strict_msgpack import WireError
from embodied.serving.wire import (
    CODES,
    MAX_HEADER,
    SUBPROTOCOL,
    Answer,
    Ask,
    Failure,
    Hello,
    Message,
    Offer,
    answer_limit,
    decode,
    encode,
)

CLOSE_SECONDS = 0.2
"""How long a farewell may take; the server forgets a session whose connection is gone."""

CONNECT_SECONDS = 1.0
"""Until a connection that has not come about is tried anew: TCP's own retries wait ever longer, so that it
would come long after the network is back."""

PONG_SECONDS = 0.5
"""Until a server that owes an answer and does not return a ping either is taken to be gone. It returns pings
however long inference takes; TCP would go on trying for a quarter of an hour."""

MAX_ANSWER = 1 << 20
"""Bytes; a chunk of 1000 steps of 64 joints, the largest that a specification allows, takes half."""

MAX_LINE = 200


class Refused(Exception):
    """The server gave no decision, and says why: `code` is one of `wire.CODES`, `reason` one line."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class Disconnected(ConnectionError):
    """The server cannot be reached, or not any more: what comes next is a new `PolicyClient`."""


class PolicyClient:
    """One session with a server, whose policy fits the robot; closing it, or leaving its `with`, ends it.

    offer: session, mode and specification that the server gave.
    """

    offer: Offer

    def __init__(
        self,
        url: str,
        *,
        robot: Specification,
        mode: str = "",
        candidates: int = 0,
        token: str | None = None,
        ca: Path | None = None,
        timeout: float = 5.0,
    ) -> None:
        """Connect, within `CONNECT_SECONDS`, and agree, within `timeout` seconds.

        url: `ws://127.0.0.1:8000`, or `wss://...` elsewhere; robot: what it offers and insists on; mode,
        candidates: how to decide, the server's choice if empty and 0; token: as the server has it; ca:
        certificate to trust for a server that signed its own.

        Raises:
            UserError: a URL or certificate file that cannot be used, or a specification that does not fit.
            Refused: the server does not take this session.
            Disconnected: there is no server, or it does not answer as one.
        """
        context = _context(url, ca)
        hello = Hello(mode=mode, candidates=candidates, expects=robot)
        self._sequence = 0
        self._limit = MAX_HEADER + 4
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="policy client", daemon=True)
        self._socket: ClientConnection | None = None
        self._thread.start()
        try:
            self._socket = self._wait(_connect(url, token, context), min(timeout, CONNECT_SECONDS))
            self.offer = self._wait(self._agree(hello), timeout)
            self._limit = answer_limit(self.offer.specification)
            line = mismatch(self.offer.specification, robot)  # the server has looked as well
            if line is not None:
                raise UserError(line)
        except TimeoutError as error:
            self.close()
            raise Disconnected(f"{url}: no answer in time") from error
        except BaseException:
            self.close()
            raise

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
        """The decision on one look; waits `deadline` seconds at most.

        images, state, task, prefix, delay, reset: as in `Request`; cameras that the policy does not look at
        are not sent. age: of the observation in seconds. An answer to an earlier request is dropped.

        Raises:
            Refused: with code `expired` if the deadline passed, there or here; after it, asking goes on.
            Disconnected: the connection is gone, or nothing comes over it any more.
        """
        if self._loop.is_closed():
            raise Disconnected("this session has ended")
        self._sequence += 1
        request = Request(
            session=self.offer.session,
            images={name: images[name] for name in self.offer.specification.cameras},
            state=state,
            task=task,
            prefix=prefix,
            delay=delay,
            reset=reset,
        )
        ask = Ask(sequence=self._sequence, age=age, deadline=deadline, request=request)
        try:
            return self._wait(self._answer(ask), deadline)
        except TimeoutError as error:
            if not self._is_alive():
                self.close()
                raise Disconnected(f"no answer within {deadline:g} s, nor to a ping") from error
            raise Refused("expired", f"no answer within {deadline:g} s") from error

    def close(self) -> None:
        """End the session; once is enough, twice does no harm."""
        if self._loop.is_closed():
            return
        if self._socket is not None:
            self._wait(_say_goodbye(self._socket), None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _connection(self) -> ClientConnection:
        if self._socket is None or self._loop.is_closed():
            raise Disconnected("this session has ended")
        return self._socket

    def _is_alive(self) -> bool:
        """Whether the server returns a ping, behind all that it was sent before."""
        try:
            self._wait(_ping(self._connection), PONG_SECONDS)
        except (OSError, WebSocketException):  # TimeoutError too
            return False
        return True

    def _wait[T](self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """Have the other thread do it; TimeoutError after `seconds`."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop).result()

    async def _agree(self, hello: Hello) -> Offer:
        await self._send(hello)
        match await self._receive():
            case Offer() as offer:
                return offer
            case Failure(code="specification", reason=reason):
                raise UserError(reason)
            case Failure() as failure:
                raise Refused(failure.code, failure.reason)
            case other:
                raise Disconnected(f"expected an offer, got a {type(other).__name__}")

    async def _answer(self, ask: Ask) -> Answer:
        await self._send(ask)
        while True:
            match await self._receive():
                case Answer() as answer if answer.sequence == ask.sequence:
                    return answer
                case Failure() as failure if failure.sequence in (None, ask.sequence):
                    raise Refused(failure.code, failure.reason)
                case Answer() | Failure():  # to an earlier request, too late
                    continue
                case other:
                    raise Disconnected(f"expected an answer, got a {type(other).__name__}")

    async def _send(self, message: Message) -> None:
        try:
            await self._connection.send(encode(message))
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"the connection is gone: {error}") from error

    async def _receive(self) -> Message:
        try:
            data = await self._connection.recv()
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"the connection is gone: {error}") from error
        if isinstance(data, str):
            raise Disconnected("the server sent text: expected vla.v1")
        try:
            return decode(data, self._limit)
        except WireError as error:
            raise Disconnected(f"the server's frame cannot be read: {error}") from error


def _context(url: str, ca: Path | None) -> ssl.SSLContext | None:
    """How to verify the server; None for a connection without TLS."""
    if not url.startswith("wss://"):
        if not url.startswith("ws://"):
            raise UserError(f"{url}: expected ws://HOST:PORT or wss://HOST:PORT")
        if ca is not None:
            raise UserError(f"{url}: expected wss:// with a certificate to trust")
        return None
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{ca}: expected a certificate file: {error}") from error


async def _ping(connection: ClientConnection) -> None:
    await (await connection.ping())


async def _say_goodbye(connection: ClientConnection) -> None:
    """Close; abort where that cannot even be sent, as the library waits for ever to send it."""
    try:
        await asyncio.wait_for(connection.close(), 2 * CLOSE_SECONDS)
    except TimeoutError:
        connection.transport.abort()


async def _connect(url: str, token: str | None, context: ssl.SSLContext | None) -> ClientConnection:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection = await connect(
            url,
            ssl=context,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=headers,
            compression=None,  # pictures of noise do not shrink, and time is short
            proxy=None,
            open_timeout=None,
            close_timeout=CLOSE_SECONDS,
            ping_interval=None,  # every request has a deadline, and the server pings
            max_size=MAX_ANSWER,
            max_queue=4,
        )
    except InvalidStatus as error:
        code, _, reason = error.response.body[:MAX_LINE].decode(errors="replace").strip().partition(": ")
        if code not in CODES:
            code, reason = "invalid", f"the server answers with status {error.response.status_code}"
        raise Refused(code, f"{url}: {reason}") from error
    except (OSError, InvalidHandshake, WebSocketException) as error:
        raise Disconnected(f"{url}: {error}") from error
    if connection.subprotocol != SUBPROTOCOL:
        await connection.close()
        raise Disconnected(f"{url}: does not speak {SUBPROTOCOL}")
    return connection
