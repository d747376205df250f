import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from embodied.serving.gate import PACE, Gate


def at_the_gate(most: int, meet: Callable[[Gate, list[socket.socket]], Awaitable[None]], peers: int) -> int:
    """So many peers come at once; returns how many had to make way."""
    dismissed: list[bool] = []

    async def run() -> None:
        gate = Gate("127.0.0.1", 0, most=most, dismissed=lambda: dismissed.append(True))
        letting_in = asyncio.create_task(gate.run())
        with ExitStack() as stack:
            come = [stack.enter_context(socket.create_connection(gate.getsockname())) for _ in range(peers)]
            gate.setblocking(False)
            await meet(gate, come)
            letting_in.cancel()
            gate.close()

    asyncio.run(run())
    return len(dismissed)


async def accepted(gate: Gate) -> tuple[socket.socket, object]:
    """As an event loop does it."""
    while True:
        try:
            return gate.accept()
        except BlockingIOError:
            await asyncio.sleep(0.001)


def is_ended(peer: socket.socket) -> bool:
    peer.settimeout(0.05)
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False


def test_a_crowd_is_let_in_one_by_one_in_the_order_in_which_it_came() -> None:
    async def meet(gate: Gate, come: list[socket.socket]) -> None:
        begun, addresses = time.monotonic(), []
        for peer in come:
            connection, address = await accepted(gate)
            addresses.append(address)
            assert address == peer.getsockname()
            connection.close()
        assert time.monotonic() - begun >= 4 * PACE

    assert at_the_gate(10, meet, peers=5) == 0


def test_the_oldest_stranger_makes_way() -> None:
    async def meet(gate: Gate, come: list[socket.socket]) -> None:
        inside = [await accepted(gate) for _ in come]
        assert [is_ended(peer) for peer in come] == [True, True, False, False]
        for connection, _ in inside:
            connection.close()

    assert at_the_gate(2, meet, peers=4) == 2


def test_who_is_known_or_gone_takes_no_place() -> None:
    async def meet(gate: Gate, come: list[socket.socket]) -> None:
        known, address = await accepted(gate)
        gate.know(address)
        (await accepted(gate))[0].close()
        left = [await accepted(gate) for _ in range(2)]
        assert [is_ended(peer) for peer in come] == [False, True, False, False]
        for connection in (known, *(connection for connection, _ in left)):
            connection.close()

    assert at_the_gate(2, meet, peers=4) == 0
