"""The process of a simulated robot: it ticks in wall-clock time, whoever of its clients lives or dies.

It listens at a local socket. A robot has one driver, whose commands it follows, and any number of observers.
Where the driver's connection ends, or no command comes, it holds. No torch and no LeRobot in here, so that it
starts fast.
"""

import json
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied.robots.body import Body, BodyConfig, MotorLog
from embodied.robots.cable import (
    CableError,
    Kind,
    Parser,
    message,
    pack_numbers,
    pack_reading,
    socket_path,
    unpack_numbers,
)
from embodied.robots.faults import Faults

RECEIVED_AT_ONCE = 65536
DRIVER, OBSERVER = "driver", "observer"
ROLES = (DRIVER, OBSERVER)


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """A robot's process. port: its name; log: of the motors; idle_seconds: after the last client."""

    body: BodyConfig
    port: str
    log: Path
    idle_seconds: float = 60.0

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "ProcessConfig":
        """Return the configuration that `to_json` wrote."""
        values = json.loads(text)
        body = values.pop("body")
        faults = Faults(**body.pop("faults"))
        body["cameras"] = tuple(body["cameras"])
        values["log"] = Path(values["log"])
        return cls(body=BodyConfig(**body, faults=faults), **values)


@dataclass(kw_only=True, eq=False)
class _Client:
    connection: socket.socket
    since: float
    role: str | None = None
    parser: Parser = field(default_factory=Parser)
    unsent: bytes = b""


class RobotServer:
    """Ticks a body and answers its clients; one thread does both, and never waits for a client."""

    def __init__(
        self,
        body: Body,
        listener: socket.socket,
        *,
        idle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Serve a body at a socket that listens."""
        self._body = body
        self._listener = listener
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._clients: list[_Client] = []
        self._unplugged_until = -np.inf
        self._last_served = clock()
        self._next_tick = clock()
        self._is_over = False
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Tick and serve until told to stop, or idle for too long."""
        while not self._is_over:
            self.serve(max(0.0, self._next_tick - self._clock()))
            self.tick_if_due()
        for client in list(self._clients):
            self._hang_up(client)
        self._selector.close()

    def stop(self) -> None:
        """Have `run` return."""
        self._is_over = True

    def tick_if_due(self) -> None:
        """Tick if it is time; ticks that were missed are left out."""
        now = self._clock()
        if now < self._next_tick:
            return
        self._next_tick = max(self._next_tick + 1.0 / self._body.fps, now)
        self._drop_if_due(now)
        self._body.tick(now)
        if self._clients:
            self._last_served = now
        elif now - self._last_served > self._idle_seconds:
            self._is_over = True

    def serve(self, timeout: float) -> None:
        """Do what clients ask for, waiting at most `timeout` seconds for the first to ask."""
        for key, events in self._selector.select(timeout):
            if key.data is None:
                self._accept()
            elif events & selectors.EVENT_WRITE:
                self._send(key.data, b"")
            else:
                self._receive(key.data)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        client = _Client(connection=connection, since=self._clock())
        self._clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.connection.recv(RECEIVED_AT_ONCE)
            messages = client.parser.feed(data)
            if not data:
                raise CableError("the client has hung up")
            for kind, number, payload in messages:
                if client not in self._clients:
                    return
                self._answer(client, kind, number, payload)
        except OSError:  # CableError too: one client's end is no reason to stop
            self._hang_up(client)

    def _answer(self, client: _Client, kind: Kind, number: int, payload: bytes) -> None:
        now = self._clock()
        if kind == Kind.HELLO:
            self._greet(client, payload, now)
        elif client.role is None:
            raise CableError("expected HELLO first")
        elif kind == Kind.OBSERVE:
            self._send(client, message(Kind.READING, pack_reading(self._body.latest(now))))
        elif kind == Kind.COMMAND and client.role == DRIVER:
            self._body.command(number, unpack_numbers(payload, len(self._body.names)), now)
        elif kind == Kind.PRIVILEGED:
            self._send(client, message(Kind.STATE, pack_numbers(self._body.env.privileged_state())))
        else:
            self._change(client, kind, number, payload, now)

    def _change(self, client: _Client, kind: Kind, number: int, payload: bytes, now: float) -> None:
        """Do what changes the scene itself."""
        try:
            if kind == Kind.RESET:
                self._body.reset(number, now)
            elif kind == Kind.INJECT:
                self._body.inject(Faults(**json.loads(payload)))
                client.since = now
            elif kind == Kind.SHUT_DOWN:
                self._is_over = True
            else:
                raise ValueError(f"{kind.name} from an {client.role}: expected a question")
        except (TypeError, ValueError) as error:
            self._send(client, message(Kind.REFUSED, str(error).encode()))
        else:
            self._send(client, message(Kind.DONE))

    def _greet(self, client: _Client, payload: bytes, now: float) -> None:
        role = payload.decode(errors="replace")
        drivers = [other for other in self._clients if other.role == DRIVER]
        refusal = None
        if now < self._unplugged_until:
            refusal = "the robot is unplugged"
        elif role not in ROLES:
            refusal = f"role {role!r}: expected one of {', '.join(ROLES)}"
        elif role == DRIVER and drivers:
            refusal = "the robot has a driver"
        if refusal is not None:
            self._send(client, message(Kind.REFUSED, refusal.encode()))
            return
        client.role, client.since = role, now
        self._send(client, message(Kind.WELCOME, json.dumps(self._description()).encode()))

    def _description(self) -> dict[str, Any]:
        env, config = self._body.env, self._body.config
        return {
            "robot": config.robot,
            "task": env.task,
            "instruction": env.task_description,
            "names": list(self._body.names),
            "cameras": {camera: [config.height, config.width, 3] for camera in env.cameras},
            "fps": self._body.fps,
            "privileged_size": len(env.privileged_state()),
        }

    def _send(self, client: _Client, data: bytes) -> None:
        """Send what can be sent now. A client that asks more without reading is hung up on."""
        if data and client.unsent:
            raise CableError("a client that does not read")
        client.unsent += data
        try:
            sent = client.connection.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(client)
            return
        client.unsent = client.unsent[sent:]
        write = selectors.EVENT_WRITE if client.unsent else 0
        self._selector.modify(client.connection, selectors.EVENT_READ | write, client)

    def _drop_if_due(self, now: float) -> None:
        after = self._body.faults.drop_after
        for client in list(self._clients):
            if after is not None and client.role == DRIVER and now - client.since >= after:
                self._unplugged_until = now + self._body.faults.drop_for
                for each in list(self._clients):
                    self._hang_up(each)
                return

    def _hang_up(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._clients.remove(client)
        self._selector.unregister(client.connection)
        client.connection.close()
        if client.role == DRIVER:
            self._body.release()


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`; one that nobody listens at any more is replaced.

    Raises:
        OSError: a robot listens there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            pass
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def main(text: str) -> None:
    """Run a robot's process, described by ProcessConfig's JSON, until it is told to stop."""
    config = ProcessConfig.from_json(text)
    path = socket_path(config.port)
    log = MotorLog(config.log)
    body = Body(config.body, log, time.monotonic())
    listener = listen(path)
    server = RobotServer(body, listener, idle_seconds=config.idle_seconds)
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the client's terminal
    try:
        server.run()
    finally:
        path.unlink(missing_ok=True)
        listener.close()
        body.close()


if __name__ == "__main__":
    main(sys.argv[1])
