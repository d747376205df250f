"""Where strangers wait: a listening socket that lets them in one by one, and not too many at a time.

A TLS handshake is work for the server before it knows from whom. A crowd that comes at once would be greeted
at once, and the answers to robots in motion would wait for it; one who is let in every `PACE` delays nobody
by more than one handshake. Whoever has no session yet is a stranger. The newest is always let in: where there
are too many, the one who has been a stranger for longest makes way, so that peers who connect and say nothing
keep out only each other.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PACE = 0.01
"""Seconds between two strangers; so many handshakes take about a tenth of a core."""

BACKLOG = 100


class Gate(socket.socket):
    """Listens in place of a listening socket: whoever accepts from it gets what `run` has let in.

    most: strangers at a time; dismissed: called for each that made way.
    """

    def __init__(self, host: str, port: int, *, most: int, dismissed: Callable[[], None]) -> None:
        """Raises OSError if there is no such address, or it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        # Readable while somebody has been let in, as a listening socket is while somebody has come.
        self._bell, theirs = socket.socketpair()
        super().__init__(fileno=theirs.detach())
        self._most, self._dismissed = most, dismissed
        self._let_in: deque[tuple[socket.socket, Any]] = deque()
        self._strangers: dict[Any, socket.socket] = {}

    async def run(self) -> None:
        """Let strangers in until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            connection, address = await loop.sock_accept(self._listener)
            self._strangers = {key: one for key, one in self._strangers.items() if one.fileno() >= 0}
            while len(self._strangers) >= self._most:
                oldest = self._strangers.pop(next(iter(self._strangers)))
                with suppress(OSError):  # gone by itself
                    oldest.shutdown(socket.SHUT_RDWR)
                self._dismissed()
            self._strangers[address] = connection
            self._let_in.append((connection, address))
            self._bell.send(b"\0")
            await asyncio.sleep(PACE)

    def know(self, address: Any) -> None:
        """The peer of this address is no stranger any more."""
        self._strangers.pop(address, None)

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Nothing to do: it listens."""

    def accept(self) -> tuple[socket.socket, Any]:
        """The next who was let in, and the address; BlockingIOError if nobody was."""
        self.recv(1)
        return self._let_in.popleft()

    def getsockname(self) -> Any:
        """Where it listens."""
        return self._listener.getsockname()

    def close(self) -> None:
        """Listen no more; who has not been let in is turned away."""
        self._listener.close()
        self._bell.close()
        for connection, _ in self._let_in:
            connection.close()
        self._let_in.clear()
        super().close()
