"""The server: WebSocket in front, one line of requests, inference in another process behind.

Every connection is one session with a state of its own in the policy, which ends with the connection. Reading
and writing are separate tasks per connection, and the one task that asks for decisions waits for nobody but
inference: a peer that is slow, stalled or half gone delays only itself. The same port answers
`/health/live`, `/health/ready` and `/metrics`.
"""

import asyncio
import http
import logging
import secrets
import ssl
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from embodied.errors import UserError
from embodied.serving import openpi
from embodied.serving.access import check_exposure, has_token
from embodied.serving.connections import Dialect, OpenpiDialect, Session, VlaDialect, read_message
from embodied.serving.dispatch import Dispatcher
from embodied.serving.gate import Gate
from embodied.serving.inference import Inference, InferenceDied, Target
from embodied.serving.metrics import CONTENT_TYPE, Metrics
from embodied.serving.runner import check_mode, check_request
from embodied.serving.specification import PLAN, Specification, mismatch
from embodied.serving.strict_msgpack import WireError
from embodied.serving.wire import (
    SUBPROTOCOL,
    Failure,
    Hello,
    Offer,
    decode,
    encode,
    one_line,
    request_limit,
)

logger = logging.getLogger(__name__)
SILENT = logging.getLogger(f"{__name__}.websockets")
SILENT.setLevel(logging.CRITICAL)
"""The library's own remarks: a stranger must not be able to fill the log."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve.

    modes: those that sessions may choose, all of the policy's if empty; mode: for who names none, the first
    of them if empty; max_candidates: the most chunks that sessions may have `plan` choose among, the policy's
    own number if None; max_batch: requests decided together; openpi: whether to speak its dialect as well;
    inference_timeout: seconds after which inference has hung; patience: seconds for a handshake, between
    pings, for their answer, for a stalled reader and for draining; max_strangers: connections without a
    session, see `gate`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tls: ssl.SSLContext | None = None
    token: str | None = None
    modes: tuple[str, ...] = ()
    mode: str = ""
    max_candidates: int | None = None
    max_sessions: int = 32
    max_strangers: int = 64
    max_batch: int = 8
    openpi: bool = False
    inference_timeout: float = 30.0
    patience: float = 5.0


class PolicyServer:
    """One policy behind one port, made, started and drained on one event loop.

    failure: raises what ended one of its tasks; a server that has failed serves no more.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        """Raises UserError if it would be open to others without TLS and a token."""
        check_exposure(settings.host, has_tls=settings.tls is not None, has_token=settings.token is not None)
        self._settings = settings
        self.metrics = Metrics()
        self.inference = Inference(target, timeout=settings.inference_timeout, died=self._dismiss_all)
        self._dispatcher = Dispatcher(self.inference, self.metrics, most=settings.max_batch)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._draining = False
        self._connected = 0

    async def start(self) -> None:
        """Load the policy, then listen; UserError if either cannot be done."""
        settings = self._settings
        try:
            await self.inference.start()
        except InferenceDied as error:
            raise UserError("the policy cannot be loaded, see above: expected one that can") from error
        try:
            offered = self.inference.specification
            self.specification = _limited(offered, settings.modes, settings.max_candidates)
            self._candidates = min(offered.candidates, self.specification.candidates)
            self._mode = _default_mode(self.specification, settings.mode)
            self._limit = request_limit(self.specification)
            self._server = await self._listen()
        except OSError as error:
            await self.inference.stop()
            place = f"--host={settings.host} --port={settings.port}"
            raise UserError(f"{place}: expected an address to listen on: {error.strerror}") from error
        except UserError:
            await self.inference.stop()
            raise
        self._begin(self.inference.run())
        self._begin(self._dispatcher.run())
        self._letting_in = self._begin(self._gate.run())

    @property
    def port(self) -> int:
        """Where it listens, of use when told port 0."""
        return next(iter(self._server.sockets)).getsockname()[1]

    async def drain(self) -> None:
        """Take no more requests, answer those taken, say goodbye and stop inference."""
        self._draining = True
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.patience
        while not self._dispatcher.is_idle and loop.time() < ends:
            await asyncio.sleep(0.01)
        self._letting_in.cancel()
        self._server.close(reason="the server is closing")
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.inference.stop()

    async def _listen(self) -> Server:
        settings = self._settings
        self._gate = Gate(
            settings.host,
            settings.port,
            most=settings.max_strangers,
            dismissed=self.metrics.refused.labels("crowd").inc,
        )
        return await serve(
            self._handle,
            sock=self._gate,
            ssl=settings.tls,
            origins=[None],  # no browser: a web page could reach a server on its reader's machine
            compression=None,
            select_subprotocol=self._choose_dialect,
            process_request=self._process_request,
            server_header=None,
            open_timeout=settings.patience,
            ping_interval=settings.patience,
            ping_timeout=settings.patience,
            close_timeout=1.0,
            max_size=self._limit,
            max_queue=2,
            logger=SILENT,
            ssl_handshake_timeout=None if settings.tls is None else settings.patience,
        )

    # --- HTTP -------------------------------------------------------------------------------------

    def _process_request(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer what is no WebSocket, and refuse who may not connect."""
        settings = self._settings
        if request.path == "/health/live":
            return socket.respond(http.HTTPStatus.OK, "live\n")
        if request.path == "/health/ready":
            return self._unable(socket) or socket.respond(http.HTTPStatus.OK, "ready\n")
        if settings.token is not None and not has_token(request.headers, settings.token):
            return self._refuse(socket, http.HTTPStatus.UNAUTHORIZED, "token: is missing or wrong")
        if request.path == "/metrics":
            self.metrics.ready.set(self.inference.is_ready)
            response = socket.respond(http.HTTPStatus.OK, self.metrics.text())
            _set(response.headers, "Content-Type", CONTENT_TYPE)
            return response
        if request.path != "/":
            return self._refuse(socket, http.HTTPStatus.NOT_FOUND, "invalid: expected the path /")
        if self._connected >= settings.max_sessions:
            reason = f"busy: {settings.max_sessions} sessions are open"
            return self._refuse(socket, http.HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return self._unable(socket)

    def _unable(self, socket: ServerConnection) -> Response | None:
        """A refusal while nothing can be decided."""
        if self._draining:
            return self._refuse(socket, http.HTTPStatus.SERVICE_UNAVAILABLE, "closing: the server is closing")
        if not self.inference.is_ready:
            reason = "unavailable: inference is starting"
            return self._refuse(socket, http.HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return None

    def _refuse(self, socket: ServerConnection, status: http.HTTPStatus, line: str) -> Response:
        self.metrics.refused.labels(line.partition(":")[0]).inc()
        return socket.respond(status, f"{line}\n")

    def _choose_dialect(self, socket: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        if SUBPROTOCOL in offered:
            return Subprotocol(SUBPROTOCOL)
        if self._settings.openpi and not offered:
            return None
        raise NegotiationError(f"expected sub-protocol {SUBPROTOCOL}")

    # --- sessions ---------------------------------------------------------------------------------

    async def _handle(self, socket: ServerConnection) -> None:
        """One connection from greeting to end; what goes wrong ends this one only."""
        self._connected += 1
        try:
            greet = self._greet_openpi if socket.subprotocol is None else self._greet_vla
            session = await greet(socket)
            if session is not None:
                await self._serve(session)
        except (ConnectionClosed, TimeoutError):
            pass
        except Exception:
            logger.exception("a connection failed")
            await socket.close(1011, "internal error")
        finally:
            self._connected -= 1

    async def _greet_vla(self, socket: ServerConnection) -> Session | None:
        """Agree on specification and how to decide; None, and a typed refusal, if that fails."""
        try:
            frame = await asyncio.wait_for(read_message(socket), self._settings.patience)
            hello = _read_hello(frame, self._limit)
        except WireError as error:
            return await self._turn_away(socket, "invalid", one_line(error))
        line = mismatch(self.specification, hello.expects)
        if line is not None:
            return await self._turn_away(socket, "specification", one_line(UserError(line)))
        mode = hello.mode or self._mode
        try:
            self._check_asked(mode, hello.candidates)
        except UserError as error:
            return await self._turn_away(socket, "invalid", one_line(error))
        session = self._session(mode, hello.candidates, socket, VlaDialect(self.specification))
        if await self._open(session):
            offer = Offer(
                session=session.name,
                mode=mode,
                candidates=session.candidates,
                specification=self.specification,
            )
            session.post(encode(offer))
            return session
        return None

    def _check_asked(self, mode: str, candidates: int) -> None:
        """Raise UserError for a way to decide that sessions may not choose."""
        check_mode(mode, candidates, self.specification)
        most = self.specification.candidates
        if candidates > most:
            raise UserError(f"candidates {candidates}: expected at most {most}, this server's limit")

    def _session(self, mode: str, candidates: int, socket: ServerConnection, dialect: Dialect) -> Session:
        count = (candidates or self._candidates) if mode == PLAN else 0
        return Session(secrets.token_hex(16), mode, count, socket, dialect)

    async def _greet_openpi(self, socket: ServerConnection) -> Session | None:
        session = self._session(self._mode, 0, socket, OpenpiDialect(self.specification))
        if await self._open(session):
            session.post(openpi.metadata(self.specification))
            return session
        return None

    async def _open(self, session: Session) -> bool:
        """Make the session known to the policy; a typed refusal if that fails."""
        if self._connected > self._settings.max_sessions:
            await self._turn_away(session.socket, "busy", f"{self._settings.max_sessions} sessions are open")
            return False
        generation = self.inference.generation
        try:
            await self.inference.open(session.name, session.mode, session.candidates)
            if not (self.inference.is_ready and self.inference.generation == generation):
                raise InferenceDied("inference died and is starting anew")
        except (InferenceDied, UserError) as error:
            await self._turn_away(session.socket, "unavailable", one_line(error))
            return False
        self._dispatcher.add(session)
        self._gate.know(session.socket.remote_address)
        return True

    async def _turn_away(self, socket: ServerConnection, code: str, reason: str) -> None:
        """Say why, and goodbye."""
        self.metrics.refused.labels(code).inc()
        text = (
            f"{code}: {reason}" if socket.subprotocol is None else encode(Failure(code=code, reason=reason))
        )
        with suppress(ConnectionClosed, TimeoutError):
            await asyncio.wait_for(socket.send(text), self._settings.patience)
        await socket.close(1008, code)

    async def _serve(self, session: Session) -> None:
        """Read what the session asks until it ends."""
        writing = asyncio.create_task(session.write(self._settings.patience))
        try:
            while True:
                self._take(session, await read_message(session.socket))
        except WireError as error:
            await self._turn_away(session.socket, "invalid", one_line(error))
        finally:
            writing.cancel()
            self._dispatcher.remove(session.name)
            self.inference.close(session.name)

    def _take(self, session: Session, frame: bytes | str) -> None:
        """Put what a frame asks in line, or say why not; WireError for a frame that asks nothing."""
        if isinstance(frame, str):
            raise WireError("a text frame: expected binary ones")
        ask, wired = session.dialect.read(frame, session.name)
        refuse = self._dispatcher.refuse
        if ask.request.session != session.name:
            return refuse(session, "session", "expected the session that was offered", ask.sequence)
        if self._draining:
            return refuse(session, "closing", "the server is closing", ask.sequence)
        try:
            check_request(ask.request, self.specification)
        except UserError as error:
            return refuse(session, "invalid", one_line(error), ask.sequence)
        return self._dispatcher.submit(session, ask, wired)

    def _dismiss_all(self) -> None:
        """Inference died, and with it what the sessions were: they have to begin anew."""
        self.metrics.deaths.inc()
        for session in list(self._dispatcher.sessions.values()):
            self._dispatcher.remove(session.name)
            self._begin(self._turn_away(session.socket, "unavailable", "inference died and is starting anew"))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)


def _read_hello(frame: bytes | str, limit: int) -> Hello:
    if isinstance(frame, str):
        raise WireError("a text frame: expected binary ones")
    match decode(frame, limit):
        case Hello() as hello:
            return hello
        case other:
            raise WireError(f"a message of type {type(other).__name__}: expected hello first")


def _limited(
    specification: Specification, modes: tuple[str, ...], max_candidates: int | None
) -> Specification:
    """The specification with what sessions may choose; UserError for a mode that the policy lacks."""
    for mode in modes:
        if mode not in specification.modes:
            raise UserError(f"--modes={','.join(modes)}: expected some of {', '.join(specification.modes)}")
    modes = modes or specification.modes
    if PLAN not in modes and max_candidates is not None:
        raise UserError(
            f"--max_candidates={max_candidates}: expected {PLAN} among the modes, {', '.join(modes)}"
        )
    most = specification.candidates if max_candidates is None else max_candidates
    return replace(specification, modes=modes, candidates=most if PLAN in modes else 0)


def _default_mode(specification: Specification, mode: str) -> str:
    if mode and mode not in specification.modes:
        raise UserError(f"--mode={mode}: expected one of {', '.join(specification.modes)}")
    return mode or specification.modes[0]


def _set(headers: Headers, name: str, value: str) -> None:
    del headers[name]
    headers[name] = value
