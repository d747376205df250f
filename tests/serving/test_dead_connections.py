"""A server that has gone without a word is noticed; one that is only slow is not given up."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from embodied.chaos.relay import Relay
from embodied.serving.client import CONNECT_SECONDS, Disconnected, PolicyClient, Refused
from tests.serving.conftest import Running
from tests.serving.specifications import POLICY, ROBOT

IMAGES = {name: np.zeros(size, np.uint8) for name, size in POLICY.cameras.items()}


def ask(client: PolicyClient, task: str = "", deadline: float = 0.2) -> None:
    client.act(images=IMAGES, state=np.zeros(3, np.float32), task=task, age=0.0, deadline=deadline)


@pytest.fixture
def server(serving: Callable[..., Running]) -> Running:
    return serving()


@pytest.fixture
def relay(server: Running) -> Iterator[Relay]:
    found = Relay(server.port)
    yield found
    found.close()


def test_a_connection_over_which_nothing_comes_is_given_up_and_a_new_one_made(relay: Relay) -> None:
    url = f"ws://127.0.0.1:{relay.port}"
    with PolicyClient(url, robot=ROBOT) as client:
        ask(client, deadline=10.0)
        relay.go_dark()
        begun = time.monotonic()
        with pytest.raises(Disconnected, match=r"no answer within 0\.2 s, nor to a ping"):
            ask(client)
        assert time.monotonic() - begun < 2.0
        with pytest.raises(Disconnected, match="this session has ended"):
            ask(client)
    relay.light_up()
    with PolicyClient(url, robot=ROBOT) as client:
        ask(client, deadline=10.0)


def test_connecting_into_the_dark_does_not_take_long(relay: Relay) -> None:
    relay.go_dark()
    begun = time.monotonic()
    with pytest.raises(Disconnected, match="no answer in time"):
        PolicyClient(f"ws://127.0.0.1:{relay.port}", robot=ROBOT)
    assert time.monotonic() - begun == pytest.approx(CONNECT_SECONDS, abs=0.7)


def test_a_policy_that_takes_its_time_keeps_its_connection(server: Running) -> None:
    with PolicyClient(server.url, robot=ROBOT) as client:
        with pytest.raises(Refused, match="expired"):
            ask(client, "sleep 1", deadline=0.2)
        ask(client, deadline=10.0)


def test_a_farewell_that_cannot_be_sent_is_not_waited_for(relay: Relay) -> None:
    """More than all buffers hold is on its way, so that not even the word of the end gets out."""
    with PolicyClient(f"ws://127.0.0.1:{relay.port}", robot=ROBOT) as client:
        relay.go_dark()
        connection = client._connection
        client._loop.call_soon_threadsafe(connection.transport.write, bytes(64 << 20))
        closing = threading.Thread(target=client.close)
        closing.start()
        closing.join(5.0)
        assert not closing.is_alive()
