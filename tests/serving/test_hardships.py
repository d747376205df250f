"""Peers that mean no good, or are not well: what they do stays with them."""

import socket
import ssl
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from embodied.errors import UserError
from embodied.serving.access import server_context
from embodied.serving.client import Disconnected, PolicyClient, Refused
from embodied.serving.connections import MOST_MAIL, MOST_PARTS
from embodied.serving.fuzzing import honest_request, hostile_openpi, hostile_wire
from embodied.serving.inference import Target
from embodied.serving.specification import Signals, to_plain
from embodied.serving.wire import SUBPROTOCOL, Ask, Failure, Hello, Offer, decode, encode
from tests.serving.conftest import Running
from tests.serving.specifications import POLICY, ROBOT
from tests.serving.test_server import IMAGES, ask, told, until

Serving = Callable[..., Running]
MANY = Signals(
    names=tuple(f"joint {i}" for i in range(64)), units=("deg",) * 64, low=(0.0,) * 64, high=(100.0,) * 64
)
TOKEN = "a token of sufficient length"
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def raw(running: Running) -> socket.socket:
    return socket.create_connection(("localhost", running.port), timeout=10)


def plain_connection(running: Running, *, dialect: str | None = SUBPROTOCOL) -> ClientConnection:
    return connect(running.url, subprotocols=[dialect] if dialect else None, proxy=None, legacy=True)


def page(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def is_ended(peer: socket.socket) -> bool:
    """Whether the server has closed the connection; what it said before is read."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


# --- health and metrics ---------------------------------------------------------------------------


def test_health_and_metrics_are_told_on_the_same_port(serving: Serving) -> None:
    running = serving()
    base = f"http://localhost:{running.port}"
    assert page(f"{base}/health/live") == (200, "live\n")
    assert page(f"{base}/health/ready") == (200, "ready\n")
    assert page(f"{base}/elsewhere") == (404, "invalid: expected the path /\n")
    with PolicyClient(running.url, robot=ROBOT) as client:
        ask(client)
        status, text = page(f"{base}/metrics")
    assert status == 200
    assert 'embodied_requests_total{outcome="answered"} 1.0' in text
    assert "embodied_sessions 1.0" in text
    assert "embodied_ready 1.0" in text


def test_a_server_without_inference_lives_but_is_not_ready(serving: Serving) -> None:
    running = serving()
    base = f"http://localhost:{running.port}"
    with PolicyClient(running.url, robot=ROBOT) as client, pytest.raises(Refused):
        ask(client, "die")
    assert page(f"{base}/health/live") == (200, "live\n")
    assert page(f"{base}/health/ready") == (503, "unavailable: inference is starting\n")
    until(lambda: page(f"{base}/health/ready")[0] == 200)
    assert "embodied_inference_deaths_total 1.0" in page(f"{base}/metrics")[1]


# --- who may connect ------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """The server's context, and the file of the authority that clients have to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for certificate in issued.cert_chain_pems:
        certificate.write_to_path(tmp_path / "cert.pem", append=True)
    return server_context(tmp_path / "cert.pem", tmp_path / "key.pem"), tmp_path / "ca.pem"


def test_over_tls_and_with_the_token_a_session_is_served(
    serving: Serving, certificates: tuple[ssl.SSLContext, Path]
) -> None:
    tls, authority = certificates
    running = serving(host="0.0.0.0", tls=tls, token=TOKEN)
    with PolicyClient(running.url, robot=ROBOT, token=TOKEN, ca=authority) as client:
        assert told(ask(client)) == [1, 1, 7]
    for token in (None, f"{TOKEN}r"):
        with pytest.raises(Refused, match="is missing or wrong") as refusal:
            PolicyClient(running.url, robot=ROBOT, token=token, ca=authority)
        assert refusal.value.code == "token"
    with pytest.raises(Disconnected, match="CERTIFICATE_VERIFY_FAILED"):
        PolicyClient(running.url, robot=ROBOT, token=TOKEN)
    with pytest.raises(Disconnected):
        PolicyClient(running.url.replace("wss", "ws"), robot=ROBOT, token=TOKEN)


def test_without_tls_and_a_token_only_this_machine_is_served(
    serving: Serving, certificates: tuple[ssl.SSLContext, Path]
) -> None:
    for settings in ({}, {"token": TOKEN}, {"tls": certificates[0]}):
        with pytest.raises(UserError, match="others can reach it"):
            serving(host="0.0.0.0", **settings)


def test_metrics_need_the_token_and_health_does_not(serving: Serving) -> None:
    base = f"http://localhost:{serving(token=TOKEN).port}"
    assert page(f"{base}/metrics")[0] == 401
    assert page(f"{base}/metrics", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert page(f"{base}/health/ready")[0] == 200


def test_a_web_page_cannot_connect_from_its_readers_machine(serving: Serving) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            serving().url, subprotocols=[SUBPROTOCOL], origin="https://example.org", proxy=None, legacy=True
        )


# --- frames that cannot be understood -------------------------------------------------------------


def test_hostile_frames_end_their_sessions_with_typed_refusals(serving: Serving) -> None:
    running = serving()
    with PolicyClient(running.url, robot=ROBOT) as healthy:
        for looks, frame in enumerate([*hostile_wire().values()][::3]):  # of every kind some
            hostile = plain_connection(running)
            hostile.send(encode(Hello(expects=ROBOT)))
            assert isinstance(decode(hostile.recv(), 10**6), Offer)
            hostile.send(frame)
            refusal = decode(hostile.recv(timeout=10), 10**6)
            assert isinstance(refusal, Failure)
            assert refusal.code == "invalid"
            assert "Traceback" not in refusal.reason
            with pytest.raises(ConnectionClosed):
                hostile.recv(timeout=10)
            assert told(ask(healthy))[0] == looks + 1


@pytest.mark.parametrize("frame", [b"", "text", hostile_wire()["nested maps"], b"\0" * 10])
def test_who_does_not_say_hello_is_sent_away(serving: Serving, frame: bytes | str) -> None:
    hostile = plain_connection(serving())
    hostile.send(frame)
    refusal = decode(hostile.recv(), 10**6)
    assert isinstance(refusal, Failure)
    assert refusal.code == "invalid"


def test_a_pickle_sent_to_openpis_dialect_is_refused_in_one_line(serving: Serving) -> None:
    hostile = plain_connection(serving(openpi=True), dialect=None)
    hostile.recv()
    hostile.send(hostile_openpi()["pickle in an object array"])
    refusal = hostile.recv()
    assert isinstance(refusal, str)
    assert refusal.startswith("invalid: dtype of an array")
    assert "\n" not in refusal


def test_a_frame_over_the_limit_is_cut_off_before_it_is_read(serving: Serving) -> None:
    running = serving()
    with raw(running) as peer, PolicyClient(running.url, robot=ROBOT) as healthy:
        peer.sendall(UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        peer.sendall(b"\x82\xff" + struct.pack(">Q", 1 << 32) + b"mask" + b"\0" * 1000)
        assert is_ended(peer)
        assert told(ask(healthy)) == [1, 1, 7]


def test_a_message_of_endless_parts_ends_its_session(serving: Serving) -> None:
    """Empty ones: no limit of bytes is ever reached."""
    running = serving()
    with raw(running) as peer, PolicyClient(running.url, robot=ROBOT) as healthy:
        peer.sendall(UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        peer.sendall(masked(encode(Hello(expects=ROBOT))))
        peer.sendall(b"\x02\x80mask" + b"\x00\x80mask" * MOST_PARTS)
        said = b""
        while b"parts" not in said:
            said += (part := peer.recv(4096))
            assert part, "it ended without a word"
        assert told(ask(healthy)) == [1, 1, 7]


def test_a_message_in_two_parts_is_read_as_one(serving: Serving) -> None:
    with raw(serving()) as peer:
        peer.sendall(UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        hello = masked(encode(Hello(expects=ROBOT)))
        length = struct.unpack(">H", hello[2:4])[0] - 100
        peer.sendall(b"\x02\xfe" + struct.pack(">H", length) + hello[4 : 8 + length])
        peer.sendall(b"\x80\xe4" + b"\0" * 4 + hello[8 + length :])
        said = b""
        while b"offer" not in said:
            said += (part := peer.recv(4096))
            assert part, "it ended without a word"


# --- peers that are slow, stalled or half gone ----------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", UPGRADE, UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()]
)
def test_who_never_finishes_a_greeting_is_cut_off(serving: Serving, sent: bytes) -> None:
    """Slow loris: at every stage of the handshake."""
    running = serving(patience=0.3)
    with ExitStack() as stack:
        healthy = stack.enter_context(PolicyClient(running.url, robot=ROBOT))
        peers = [stack.enter_context(raw(running)) for _ in range(20)]
        for peer in peers:
            peer.sendall(sent)
        assert told(ask(healthy)) == [1, 1, 7]
        assert all(is_ended(peer) for peer in peers)


def test_strangers_who_say_nothing_keep_out_only_each_other(serving: Serving) -> None:
    """There is room for three; a session that was there before is none of them."""
    running = serving(patience=20.0, max_strangers=3)
    with ExitStack() as stack:
        healthy = stack.enter_context(PolicyClient(running.url, robot=ROBOT))
        peers = [stack.enter_context(raw(running)) for _ in range(20)]
        assert all(is_ended(peer) for peer in peers[:17])
        assert told(ask(healthy)) == [1, 1, 7]
        with PolicyClient(running.url, robot=ROBOT) as client:
            assert told(ask(client)) == [1, 1, 7]
        assert 'embodied_refused_total{reason="crowd"} 18.0' in running.server.metrics.text()


def test_a_half_open_connection_is_noticed_and_its_session_freed(serving: Serving) -> None:
    """The peer's kernel takes what comes, but nobody reads it or answers a ping."""
    running = serving(patience=0.3)
    with raw(running) as peer:
        peer.sendall(UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        peer.sendall(masked(encode(Hello(expects=ROBOT))))
        until(lambda: "embodied_sessions 1.0" in running.server.metrics.text())
        until(lambda: "embodied_sessions 0.0" in running.server.metrics.text())
    with PolicyClient(running.url, robot=ROBOT) as client:
        assert told(ask(client, "sessions"))[0] == 1


def test_a_stalled_reader_does_not_hold_up_others(serving: Serving) -> None:
    """It asks without end and reads nothing, until no more fits into its buffers."""
    robot = replace(ROBOT, cameras=POLICY.cameras, state=MANY, action=MANY)
    policy = replace(POLICY, state=MANY, action=MANY, chunk_size=1000, rtc=False)  # 256 KB a decision
    holding = "embodied.serving.runners:holding_still_as"
    target = Target(function=holding, arguments={"specification": to_plain(policy)})
    running = serving(target, patience=3.0)
    sessions = running.server._dispatcher.sessions
    with PolicyClient(running.url, robot=robot) as healthy, raw(running) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(UPGRADE + f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode())
        peer.sendall(masked(encode(Hello(expects=robot))))
        until(lambda: len(sessions) == 2)
        stalled = next(session for name, session in sessions.items() if name != healthy.offer.session)
        request = replace(honest_request(policy, np.random.default_rng(0)), session=stalled.name)
        answered = 0
        while len(stalled._mail) < MOST_MAIL:
            frame = encode(Ask(sequence=answered, age=0.0, deadline=60.0, request=request))
            peer.sendall(masked(frame))
            answered += 1
            until(lambda: running.server.metrics.outcomes()["answered"] == answered)  # noqa: B023
        state = np.arange(64, dtype=np.float32)
        for _ in range(20):
            answer = healthy.act(images=IMAGES, state=state, task="", age=0.0, deadline=2.0)
            assert answer.decision.actions[-1].tolist() == state.tolist()
        until(lambda: set(sessions) == {healthy.offer.session})


def masked(frame: bytes) -> bytes:
    """One client's frame of WebSocket, with a mask of zeros."""
    return b"\x82\xfe" + struct.pack(">H", len(frame)) + b"\0\0\0\0" + frame
