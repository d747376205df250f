"""A network between client and server that can go dark: nothing passes any more, and nobody is told.

What was connected by then, or tries to connect meanwhile, stays dead after the light is back, as it would for
the time that TCP's ever longer retries take; only new connections pass.
"""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

LOOPBACK = "127.0.0.1"
AT_ONCE = 1 << 16


class Relay:
    """Forwards connections at `port` of this machine to another one, in a thread of its own."""

    def __init__(self, target: int) -> None:
        """target: port to forward to."""
        self._target = target
        self._era, self._is_dark = 0, False
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._forward, LOOPBACK, 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def go_dark(self) -> None:
        """Let nothing pass any more."""
        self._era, self._is_dark = self._era + 1, True

    def light_up(self) -> None:
        """Let new connections pass."""
        self._is_dark = False

    def close(self) -> None:
        """End all connections."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        era = self._era
        try:
            if self._is_dark:
                await _nothing()
            with suppress(OSError):
                await self._connect(reader, writer, era)
        except asyncio.CancelledError:
            pass  # `close` has asked for it; the stream's own callback would take it for a failure
        finally:
            writer.close()
            self._connections.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, era: int) -> None:
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self._target)
        ways = [
            asyncio.ensure_future(self._pump(reader, there_writer, era)),
            asyncio.ensure_future(self._pump(there_reader, writer, era)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            there_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, era: int) -> None:
        """One way, until its end; an end that comes in the dark is not passed on either."""
        while True:
            try:
                data = await reader.read(AT_ONCE)
            except ConnectionError:
                data = b""
            if era != self._era:
                await _nothing()
            if not data:
                return
            with suppress(ConnectionError):  # the other way sees it too
                writer.write(data)
                await writer.drain()


async def _nothing() -> None:
    """For ever."""
    await asyncio.Event().wait()
