"""One connection that the policy knows: its dialect, what it asked last, and what waits to be sent to it."""

import asyncio
from collections import deque
from typing import Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from embodied.serving import openpi
from embodied.serving.specification import Specification
from embodied.serving.strict_msgpack import WireError
from embodied.serving.wire import (
    MAX_DURATION,
    Answer,
    Ask,
    Failure,
    decode,
    encode,
    request_limit,
)

MOST_MAIL = 4
"""Messages kept back for a peer that reads slowly; older ones are of no use to it."""


MOST_PARTS = 64
"""Of one message. Parts may be empty, so that their bytes bound neither their number nor what they take."""


async def read_message(socket: ServerConnection) -> bytes | str:
    """The next message; WireError for one in too many parts, ConnectionClosed at the end."""
    parts = []
    async for part in socket.recv_streaming():
        parts.append(part)
        if len(parts) > MOST_PARTS:
            raise WireError(f"a message of more than {MOST_PARTS} parts")
    return parts[0] if len(parts) == 1 else parts[0][:0].join(parts)


class Dialect(Protocol):
    """How a peer asks and wants to be answered."""

    def read(self, frame: bytes, session: str) -> tuple[Ask, bytes]:
        """What a frame asks, and the same as a frame of `vla.v1`; WireError if it asks nothing."""
        ...

    def answer(self, frame: bytes) -> bytes | str:
        """The frame of an `Answer` or a `Failure`, as that peer reads it."""
        ...

    def failure(self, failure: Failure) -> bytes | str:
        """What that peer is told instead of a decision."""
        ...


class VlaDialect:
    """`vla.v1`: requests are passed on as they came."""

    def __init__(self, specification: Specification) -> None:
        self._limit = request_limit(specification)

    def read(self, frame: bytes, session: str) -> tuple[Ask, bytes]:
        """An `Ask`; its session is checked by whoever knows the connection."""
        match decode(frame, self._limit):
            case Ask() as ask:
                return ask, frame
            case other:
                raise WireError(f"a message of type {type(other).__name__}: expected a request")

    def answer(self, frame: bytes) -> bytes | str:
        """As inference gave it."""
        return frame

    def failure(self, failure: Failure) -> bytes | str:
        """A typed message."""
        return encode(failure)


class OpenpiDialect:
    """openpi's: no numbers, no deadlines, and any text is an error to the client."""

    def __init__(self, specification: Specification) -> None:
        self._specification, self._limit, self._count = specification, request_limit(specification), 0

    def read(self, frame: bytes, session: str) -> tuple[Ask, bytes]:
        """An observation; the first of a connection begins an episode."""
        request = openpi.read_request(
            openpi.decode(frame, self._limit),
            self._specification,
            session=session,
            reset=self._count == 0,
        )
        ask = Ask(sequence=self._count, age=0.0, deadline=MAX_DURATION, request=request)
        self._count += 1
        return ask, encode(ask)

    def answer(self, frame: bytes) -> bytes | str:
        """A map with the actions."""
        match decode(frame, len(frame)):
            case Answer() as answer:
                return openpi.answer(answer.decision)
            case Failure() as failure:
                return self.failure(failure)
            case other:
                raise WireError(f"inference gave a {type(other).__name__}: expected an answer")

    def failure(self, failure: Failure) -> bytes | str:
        """A line of text."""
        return f"{failure.code}: {failure.reason}"


class Session:
    """Reading, deciding and writing meet here.

    mode, candidates: how it is decided for; owes_reset: the request that began an episode was dropped.
    """

    def __init__(
        self, name: str, mode: str, candidates: int, socket: ServerConnection, dialect: Dialect
    ) -> None:
        self.name, self.mode, self.candidates = name, mode, candidates
        self.socket, self.dialect = socket, dialect
        self.last_sequence, self.owes_reset = -1, False
        self._mail: deque[bytes | str] = deque(maxlen=MOST_MAIL)
        self._has_mail = asyncio.Event()

    @property
    def has_mail(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._mail)

    def post(self, message: bytes | str) -> None:
        """Have it sent; of many that wait for a slow reader the newest are kept."""
        self._mail.append(message)
        self._has_mail.set()

    def fail(self, code: str, reason: str, sequence: int | None = None) -> None:
        """Have it told why there is no decision."""
        self.post(self.dialect.failure(Failure(code=code, reason=reason, sequence=sequence)))

    async def write(self, patience: float) -> None:
        """Send what is posted, until cancelled or the peer is gone.

        A peer that takes nothing for `patience` seconds is cut off.
        """
        try:
            while True:
                await self._has_mail.wait()
                self._has_mail.clear()
                while self._mail:
                    await asyncio.wait_for(self.socket.send(self._mail.popleft()), patience)
        except TimeoutError:
            self.socket.transport.abort()
        except ConnectionClosed:
            pass  # whoever reads from it ends the session
