"""A network that goes dark, and what a client makes of it."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from embodied.chaos.relay import Relay


def echo(listener: socket.socket) -> None:
    """Answer each connection with what it sends, until the listener is closed."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(peer,), daemon=True).start()


def _echo(peer: socket.socket) -> None:
    with peer:
        while data := peer.recv(4096):
            peer.sendall(data)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=echo, args=(listener,), daemon=True).start()
        found = Relay(listener.getsockname()[1])
        yield found
        found.close()
        listener.shutdown(socket.SHUT_RDWR)


def connected(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def is_answered(peer: socket.socket, seconds: float = 5.0) -> bool:
    """Whether what is sent comes back; False if nothing does, not even the connection's end."""
    peer.settimeout(seconds)
    peer.sendall(b"hello")
    try:
        return peer.recv(5) == b"hello"
    except TimeoutError:
        return False


def test_it_forwards_both_ways_and_passes_an_end_on(relay: Relay) -> None:
    with connected(relay) as peer:
        assert is_answered(peer)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""


def test_in_the_dark_nothing_passes_and_nobody_is_told(relay: Relay) -> None:
    with connected(relay) as before:
        assert is_answered(before)
        relay.go_dark()
        with connected(relay) as meanwhile:
            assert not is_answered(before, 0.3)
            assert not is_answered(meanwhile, 0.3)


def test_only_new_connections_pass_after_the_dark(relay: Relay) -> None:
    with connected(relay) as before:
        assert is_answered(before)
        relay.go_dark()
        with connected(relay) as meanwhile:
            time.sleep(0.1)
            relay.light_up()
            with connected(relay) as after:
                assert is_answered(after)
            assert not is_answered(before, 0.3)
            assert not is_answered(meanwhile, 0.3)


def test_where_nobody_listens_the_connection_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    relay = Relay(port)
    with connected(relay) as peer:
        assert peer.recv(1) == b""
    relay.close()
