"""Servers in a thread of their own, ended with the test."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from embodied.serving.inference import Target
from embodied.serving.server import PolicyServer, Settings
from embodied.serving.specification import Specification, to_plain
from tests.serving.specifications import POLICY


def obedient(specification: Specification = POLICY) -> Target:
    """A policy that does what the task says."""
    return Target(function="obedient_runner:obedient", arguments={"specification": to_plain(specification)})


FOLDER = Path(__file__).parent


class Running:
    """A server and the thread that it runs in."""

    def __init__(self, target: Target, settings: dict[str, Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.server = self.do(_started(target, Settings(port=0, **settings)))
        except BaseException:
            self._end()
            raise
        self.port = self.server.port
        scheme = "wss" if "tls" in settings else "ws"
        self.url = f"{scheme}://localhost:{self.port}"

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def stop(self) -> None:
        if self._loop.is_running():
            self.do(self.server.drain())
            self._end()
            if self.server.failure.done():
                self.server.failure.result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _started(target: Target, settings: Settings) -> PolicyServer:
    server = PolicyServer(target, settings)
    await server.start()
    return server


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    """Starts servers: `serving(target, **settings)`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])]))
    started: list[Running] = []

    def start(target: Target | None = None, **settings: Any) -> Running:
        started.append(Running(target or obedient(), settings))
        return started[-1]

    yield start
    for running in started:
        running.stop()
