"""Many robots at once: how long a server's answers take, and whether they suffer from a bad neighbour.

`python -m embodied.serving.load PLAN` is the server under test or the neighbour, each in a process of its
own. A client asks at fixed times; an answer counts from the time at which it should have been asked for, so
that a server that stops the clients does not look better for it.
"""

import asyncio
import itertools
import json
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from embodied.errors import UserError
from embodied.serving.access import read_token, server_context
from embodied.serving.fuzzing import hostile_wire
from embodied.serving.inference import Target
from embodied.serving.runner import Request
from embodied.serving.serve import run_server
from embodied.serving.server import Settings
from embodied.serving.specification import Specification, from_plain, to_plain
from embodied.serving.wire import SUBPROTOCOL, Answer, Ask, Hello, Offer, answer_limit, decode, encode

BEGIN_SECONDS = 1.0
"""Until the first robot asks: all have connected by then, and the neighbour soon after."""

MOST_SESSIONS = 512


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Files: the server's certificate with its key, the authority that clients trust, and the token."""

    certificate: Path
    authority: Path
    token: Path

    @classmethod
    def within(cls, folder: Path) -> Self:
        """The same in one folder, by these names."""
        return cls(certificate=folder / "certificate", authority=folder / "authority", token=folder / "token")


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many robots ask how often, for how long; warm_up: seconds that do not count."""

    clients: int = 16
    hz: float = 10.0
    seconds: float = 30.0
    warm_up: float = 2.0


@dataclass(kw_only=True)
class Measured:
    """latencies: in seconds, a period for what was not answered within one; late: how many were not."""

    latencies: list[float] = field(default_factory=list)
    late: int = 0

    def summary(self) -> dict[str, float]:
        """`requests`, `p50_ms`, `p99_ms` and `late_share`."""
        p50, p99 = (1000 * float(np.quantile(self.latencies, share)) for share in (0.5, 0.99))
        count = len(self.latencies)
        return {"requests": count, "p50_ms": p50, "p99_ms": p99, "late_share": self.late / count}

    def add(self, other: "Measured") -> None:
        """Take in what was measured in another phase."""
        self.latencies += other.latencies
        self.late += other.late


# --- what is measured -----------------------------------------------------------------------------


@contextmanager
def served(target: Target, files: Credentials) -> Iterator[tuple[str, int]]:
    """URL and process id of a server under test."""
    with _process({"target": asdict(target)}, files) as process:
        assert process.stdout is not None
        words = (word for line in process.stdout for word in line.replace(",", "").split())  # others talk too
        address = next((word for word in words if word.startswith("wss://")), None)
        if address is None:
            raise UserError("the policy cannot be served, see above: expected one that can")
        yield address.replace("127.0.0.1", "localhost"), process.pid


@contextmanager
def _process(plan: Mapping[str, Any], files: Credentials) -> Iterator[subprocess.Popen[str]]:
    """One of the two others, ended afterwards."""
    plan = {**plan, "files": {name: str(path) for name, path in vars(files).items()}}
    command = [sys.executable, "-m", __name__, json.dumps(plan)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def neighbour(name: str, url: str, specification: Specification, files: Credentials) -> Iterator[None]:
    """One of `NEIGHBOURS` of a server, in a process of its own."""
    with _process({"url": url, "specification": to_plain(specification), "neighbour": name}, files):
        yield


def measure(
    url: str, specification: Specification, files: Credentials, load: Load, *, beside: str = "nobody"
) -> Measured:
    """Ask like so many robots, spread over a period; beside: one of `NEIGHBOURS`."""
    with neighbour(beside, url, specification, files):
        return asyncio.run(_drive(url, specification, files, load))


async def _drive(url: str, specification: Specification, files: Credentials, load: Load) -> Measured:
    measured = Measured()
    begin = time.monotonic() + BEGIN_SECONDS
    async with asyncio.TaskGroup() as group:
        for place in range(load.clients):
            due = begin + place / load.hz / load.clients
            group.create_task(_robot(url, specification, files, load, due, measured))
    return measured


async def _robot(
    url: str, specification: Specification, files: Credentials, load: Load, begin: float, measured: Measured
) -> None:
    """What is not answered in time is late, and all of what a robot that is cut off would have asked."""
    period, warm_up = 1 / load.hz, int(load.warm_up * load.hz)
    left = int(load.seconds * load.hz)
    with suppress(OSError, WebSocketException):
        async with _connected(url, files) as socket:
            request = _look(specification, await _agreed(socket, specification))
            for sequence in range(warm_up + left):
                due = begin + sequence * period
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await socket.send(encode(Ask(sequence=sequence, age=0.0, deadline=period, request=request)))
                is_late = not await _is_answered(socket, specification, sequence, due + period)
                if sequence >= warm_up:
                    left -= 1
                    measured.late += is_late
                    measured.latencies.append(period if is_late else time.monotonic() - due)
    measured.late += left
    measured.latencies += [period] * left


async def _is_answered(
    socket: ClientConnection, specification: Specification, sequence: int, ends: float
) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(ends - time.monotonic()):
            while True:
                frame = await socket.recv(decode=False)
                match decode(frame, answer_limit(specification)):
                    case Answer() as answer if answer.sequence == sequence:
                        return True
    return False


# --- who is beside --------------------------------------------------------------------------------


async def _nobody(url: str, specification: Specification, files: Credentials) -> None:
    """Keep quiet."""
    await asyncio.Event().wait()


async def _stall(url: str, specification: Specification, files: Credentials) -> None:
    """Ask ten times a second and never read; when the server has enough of it, come again."""
    while True:
        with suppress(ConnectionClosed):
            async with _connected(url, files) as socket:
                request = _look(specification, await _agreed(socket, specification))
                socket.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
                for sequence in itertools.count():
                    await socket.send(encode(Ask(sequence=sequence, age=0.0, deadline=1.0, request=request)))
                    await asyncio.sleep(0.1)


async def _harass(url: str, specification: Specification, files: Credentials) -> None:
    """Ten times a second a session that sends a hostile frame, and a connection that never says anything."""
    idle: list[asyncio.StreamWriter] = []
    host, port = url.removeprefix("wss://").split(":")
    try:
        for frame in itertools.cycle(hostile_wire().values()):
            idle.append((await asyncio.open_connection(host, int(port)))[1])
            with suppress(ConnectionClosed):
                async with _connected(url, files) as socket:
                    await _agreed(socket, specification)
                    await socket.send(frame)
                    await socket.recv()
            await asyncio.sleep(0.1)
    finally:
        for writer in idle:
            writer.close()


def _connected(url: str, files: Credentials) -> connect:
    return connect(
        url,
        ssl=ssl.create_default_context(cafile=str(files.authority)),
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {read_token(files.token)}"},
        compression=None,
        proxy=None,
        ping_interval=None,
        close_timeout=0.2,
    )


async def _agreed(socket: ClientConnection, specification: Specification) -> str:
    """The session that the server gives."""
    await socket.send(encode(Hello(expects=specification)))
    offer = decode(await socket.recv(decode=False), answer_limit(specification))
    assert isinstance(offer, Offer), offer
    return offer.session


def _look(specification: Specification, session: str) -> Request:
    """Pictures of noise, a state of zeros."""
    generator = np.random.default_rng(0)
    sizes = specification.cameras
    return Request(
        session=session,
        images={name: generator.integers(0, 256, size, np.uint8) for name, size in sizes.items()},
        state=np.zeros(len(specification.state.names), np.float32),
        task="pick up the block",
    )


async def _crowd(url: str, specification: Specification, files: Credentials) -> None:
    """Twice a second fifty at once, who agree on a key and say nothing more."""
    host, port = url.removeprefix("wss://").split(":")
    trust = ssl.create_default_context(cafile=str(files.authority))
    while True:
        knocking = [asyncio.open_connection(host, int(port), ssl=trust) for _ in range(50)]
        came = await asyncio.gather(*knocking, return_exceptions=True)
        await asyncio.sleep(0.5)
        for one in came:
            if not isinstance(one, BaseException):
                one[1].close()


async def _visit(url: str, specification: Specification, files: Credentials) -> None:
    """Four at once come, ask for a second or two and go: one in five without a word, one in five as a foe."""
    async with asyncio.TaskGroup() as group:
        for seed in range(4):
            group.create_task(_visits(url, specification, files, random.Random(seed)))


async def _visits(url: str, specification: Specification, files: Credentials, draw: random.Random) -> None:
    foes = list(hostile_wire().values())
    while True:
        with suppress(OSError, WebSocketException):
            async with _connected(url, files) as socket:
                request = _look(specification, await _agreed(socket, specification))
                for sequence in range(draw.randrange(20)):
                    due = time.monotonic() + 0.1
                    await socket.send(encode(Ask(sequence=sequence, age=0.0, deadline=0.1, request=request)))
                    await _is_answered(socket, specification, sequence, due)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                match draw.randrange(5):
                    case 0:
                        socket.transport.abort()
                    case 1:
                        await socket.send(draw.choice(foes))
                        await socket.recv()
        await asyncio.sleep(0.1)


NEIGHBOURS = {
    "nobody": _nobody,
    "a stalled reader": _stall,
    "hostile peers": _harass,
    "a crowd": _crowd,
    "visitors": _visit,
}


# --- the processes of the two others --------------------------------------------------------------


def main(plan: Mapping[str, Any]) -> None:
    """The server under test, or the neighbour of a server, until SIGTERM."""
    files = Credentials(**{name: Path(path) for name, path in plan["files"].items()})
    if "neighbour" in plan:
        asyncio.run(NEIGHBOURS[plan["neighbour"]](plan["url"], from_plain(plan["specification"]), files))
    else:
        tls = server_context(files.certificate, files.certificate)
        settings = Settings(port=0, tls=tls, token=read_token(files.token), max_sessions=MOST_SESSIONS)
        asyncio.run(run_server(Target(**plan["target"]), settings))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
