import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from embodied.errors import UserError
from embodied.serving.client import Disconnected, PolicyClient, Refused
from embodied.serving.inference import NICENESS, Target
from embodied.serving.specification import Specification
from embodied.serving.wire import Answer
from tests.serving.conftest import Running, obedient
from tests.serving.specifications import JOINTS, POLICY, ROBOT, SIGNALS

Serving = Callable[..., Running]
IMAGES = {name: np.zeros(size, np.uint8) for name, size in ROBOT.cameras.items()}


def ask(client: PolicyClient, task: str = "", deadline: float = 10.0, **changes: Any) -> Answer:
    look = {"images": IMAGES, "state": np.float32([7, 0, 0]), "age": 0.0}
    return client.act(**{**look, "task": task, "deadline": deadline, **changes})


def told(answer: Answer) -> list[float]:
    """Looks since the reset, size of the batch, first number of the state."""
    return answer.decision.actions[0].tolist()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.01)


def outcomes(running: Running) -> dict[str, int]:
    return {name: count for name, count in running.server.metrics.outcomes().items() if count}


def test_a_session_asks_and_is_answered(serving: Serving) -> None:
    with PolicyClient(serving().url, robot=ROBOT) as client:
        assert client.offer.specification == POLICY
        assert client.offer.mode == "reactive"
        answer = ask(client)
        assert answer.decision.actions.shape == (5, 3)
        assert told(answer) == [1, 1, 7]
        assert told(ask(client)) == [2, 1, 7]
        assert told(ask(client, reset=True)) == [1, 1, 7]


def test_sessions_do_not_know_of_each_other_and_are_freed(serving: Serving) -> None:
    running = serving()
    with PolicyClient(running.url, robot=ROBOT) as one:
        with PolicyClient(running.url, robot=ROBOT) as other:
            assert one.offer.session != other.offer.session
            assert [told(ask(client))[0] for client in (one, one, other)] == [1, 2, 1]
            assert told(ask(one, "sessions")) == [2, 2, 2]
        until(lambda: told(ask(one, "sessions"))[0] == 1)


IN_RADIANS = replace(SIGNALS, units=("rad", "rad", "percent"), low=(-2.0, -2.0, 0.0), high=(2.0, 2.0, 100.0))


@pytest.mark.parametrize(
    ("robot", "line"),
    [
        (replace(ROBOT, fps=50.0), "fps: the policy's is 30, the robot's 50"),
        (replace(ROBOT, cameras={"front": (4, 6, 3)}), "camera wrist: the policy needs it"),
        (replace(ROBOT, action=IN_RADIANS), "unit of action shoulder_pan.pos: the policy's is deg, the rob"),
        (
            replace(ROBOT, action=replace(SIGNALS, names=JOINTS[::-1], units=SIGNALS.units[::-1])),
            "action: the policy's names are shoulder_pan.pos, elbow_flex.pos",
        ),
    ],
)
def test_a_robot_that_does_not_fit_is_refused_by_the_server(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, robot: Specification, line: str
) -> None:
    """The client would refuse as well; here it looks away."""
    monkeypatch.setattr("embodied.serving.client.mismatch", lambda theirs, ours: None)
    with pytest.raises(UserError, match=line):
        PolicyClient(serving().url, robot=robot)


def test_a_policy_that_does_not_fit_is_refused_by_the_client(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embodied.serving.server.mismatch", lambda theirs, ours: None)
    with pytest.raises(UserError, match="fps: the policy's is 30, the robot's 50"):
        PolicyClient(serving().url, robot=replace(ROBOT, fps=50.0))


def test_inference_is_nicer_than_the_server_and_its_imports_are_never_collected(serving: Serving) -> None:
    with PolicyClient(serving().url, robot=ROBOT) as client:
        assert told(ask(client, "niceness"))[0] == min(19, os.nice(0) + NICENESS)
        assert told(ask(client, "frozen"))[0] > 1000


@pytest.mark.parametrize(("given", "used"), [(None, max(1, (os.cpu_count() or 1) - 1)), ("3", 3)])
def test_inference_leaves_one_core_to_the_server_unless_told_otherwise(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, given: str | None, used: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    with PolicyClient(serving().url, robot=ROBOT) as client:
        assert told(ask(client, "threads"))[0] == used


def test_modes_are_chosen_within_the_limits_of_the_server(serving: Serving) -> None:
    running = serving(modes=("imagine",))
    with PolicyClient(running.url, robot=ROBOT) as client:
        assert client.offer.mode == "imagine"
        assert client.offer.specification.modes == ("imagine",)
    with pytest.raises(Refused, match="mode reactive: expected one of imagine"):
        PolicyClient(running.url, robot=ROBOT, mode="reactive")
    with pytest.raises(UserError, match="--modes=plan: expected some of reactive, imagine"):
        serving(modes=("plan",))


PLANNING = replace(POLICY, modes=("reactive", "plan"), candidates=16)


def test_a_session_may_ask_for_candidates_up_to_the_limit_of_the_server(serving: Serving) -> None:
    url = serving(obedient(PLANNING), max_candidates=32).url
    for asked, agreed in ((0, 16), (4, 4), (32, 32)):
        with PolicyClient(url, robot=ROBOT, mode="plan", candidates=asked) as client:
            assert (client.offer.candidates, client.offer.specification.candidates) == (agreed, 32)
            assert told(ask(client, "candidates")) == [agreed] * 3
    with PolicyClient(url, robot=ROBOT) as client:
        assert client.offer.candidates == 0, "reactive has none"


@pytest.mark.parametrize(
    ("mode", "candidates", "line"),
    [
        ("plan", 9, "invalid: candidates 9: expected at most 8, this server's limit"),
        ("plan", 2, "invalid: candidates 2: expected at least 3"),
        ("reactive", 4, "invalid: candidates 4: expected 0, mode reactive has none"),
    ],
)
def test_other_candidates_are_refused_in_one_line(
    serving: Serving, mode: str, candidates: int, line: str
) -> None:
    url = serving(obedient(PLANNING), max_candidates=8).url
    with pytest.raises(Refused, match=line):
        PolicyClient(url, robot=ROBOT, mode=mode, candidates=candidates)
    with PolicyClient(url, robot=ROBOT, mode="plan") as client:
        assert client.offer.candidates == 8, "fewer than the policy's own, by the limit"


def test_a_limit_of_candidates_needs_a_policy_that_plans(serving: Serving) -> None:
    with pytest.raises(UserError, match="--max_candidates=8: expected plan among the modes, reactive"):
        serving(obedient(PLANNING), modes=("reactive",), max_candidates=8)


def together(*asked: Callable[[], Any], pause: float = 0.1) -> list[Any]:
    """Results, or the refusals, of calls that begin one shortly after the other."""
    results: list[Any] = [None] * len(asked)

    def keep(place: int) -> None:
        try:
            results[place] = asked[place]()
        except Refused as refusal:
            results[place] = refusal.code

    threads = [Thread(target=keep, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
        time.sleep(pause)
    for thread in threads:
        thread.join()
    return results


def test_what_waited_together_is_decided_together(serving: Serving) -> None:
    running = serving()
    clients = [PolicyClient(running.url, robot=ROBOT) for _ in range(3)]
    first, *others = together(lambda: ask(clients[0], "sleep 1"), *(lambda c=c: ask(c) for c in clients[1:]))
    assert told(first)[1] == 1
    assert [told(answer)[1] for answer in others] == [2, 2]
    for client in clients:
        client.close()


def test_a_request_that_is_refused_does_not_spoil_the_others(serving: Serving) -> None:
    running = serving()
    clients = [PolicyClient(running.url, robot=ROBOT) for _ in range(3)]
    _, refused, answer = together(
        lambda: ask(clients[0], "sleep 1"), lambda: ask(clients[1], "refuse"), lambda: ask(clients[2])
    )
    assert refused == "invalid"
    assert told(answer) == [1, 1, 7]
    for client in clients:
        client.close()


def test_a_deadline_that_passes_is_told_and_the_request_never_decided(serving: Serving) -> None:
    running = serving()
    with PolicyClient(running.url, robot=ROBOT) as busy, PolicyClient(running.url, robot=ROBOT) as client:
        _, late = together(lambda: ask(busy, "sleep 1"), lambda: ask(client, deadline=0.2, reset=True))
        assert late == "expired"
        until(lambda: outcomes(running).get("expired") == 1)
        assert told(ask(client)) == [1, 1, 7]


def test_a_newer_request_takes_the_place_of_the_older_with_its_reset(serving: Serving) -> None:
    running = serving()
    with PolicyClient(running.url, robot=ROBOT) as busy, PolicyClient(running.url, robot=ROBOT) as client:
        ask(client)
        ask(client)

        def impatient() -> Answer:
            with pytest.raises(Refused, match="expired"):
                running_deadline(client, reset=True)
            return ask(client)

        _, answer = together(lambda: ask(busy, "sleep 1"), impatient)
        assert told(answer) == [1, 1, 7], "the episode's begin was forgotten"
        assert outcomes(running)["superseded"] == 1


def running_deadline(client: PolicyClient, **changes: Any) -> None:
    """Give up after 0.1 s on a request that the server may take its time for."""
    client._wait, waits = lambda work, seconds: waits(work, 0.1), client._wait  # type: ignore[method-assign]
    try:
        ask(client, deadline=10.0, **changes)
    finally:
        client._wait = waits  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": np.float32([1, 2])}, "state of shape"),
        ({"state": np.float32([1, 2, math.nan])}, "state: expected finite numbers"),
        ({"images": {**IMAGES, "front": np.zeros((6, 4, 3), np.uint8)}}, "camera front of shape"),
        ({"images": {**IMAGES, "front": np.zeros((4, 6, 3), np.float32)}}, "camera front of float32"),
        ({"delay": 3}, "delay 3: expected 0 to 0"),
    ],
)
def test_a_request_that_does_not_fit_is_named_and_the_session_goes_on(
    serving: Serving, changes: dict[str, Any], reason: str
) -> None:
    with PolicyClient(serving().url, robot=ROBOT) as client:
        with pytest.raises(Refused, match=reason) as refusal:
            ask(client, **changes)
        assert refusal.value.code == "invalid"
        assert told(ask(client)) == [1, 1, 7]


def test_when_inference_dies_it_is_said_and_started_again(serving: Serving) -> None:
    running = serving()
    with PolicyClient(running.url, robot=ROBOT) as client:
        with pytest.raises(Refused) as refusal:
            ask(client, "die")
        assert refusal.value.code == "unavailable"
        with pytest.raises((Disconnected, Refused)):  # told once more, and the connection closed
            ask(client)
        with pytest.raises(Disconnected):
            until(lambda: ask_refused(client) != "unavailable")
    until(lambda: running.server.inference.is_ready)
    with PolicyClient(running.url, robot=ROBOT) as client:
        assert told(ask(client)) == [1, 1, 7]


def ask_refused(client: PolicyClient) -> str:
    with pytest.raises(Refused) as refusal:
        ask(client)
    return refusal.value.code


def test_inference_that_hangs_is_killed_and_started_again(serving: Serving) -> None:
    running = serving(inference_timeout=0.3)
    with PolicyClient(running.url, robot=ROBOT) as client, pytest.raises(Refused, match="no decision within"):
        ask(client, "hang")
    until(lambda: running.server.inference.is_ready)
    with PolicyClient(running.url, robot=ROBOT) as client:
        assert told(ask(client)) == [1, 1, 7]


def test_a_policy_that_cannot_be_loaded_is_bad_input(serving: Serving) -> None:
    with pytest.raises(UserError, match="weights: expected some"):
        serving(Target(function="obedient_runner:unloadable"))


def test_draining_answers_what_was_asked_and_ends_inference(serving: Serving) -> None:
    running = serving()
    client = PolicyClient(running.url, robot=ROBOT)
    pid = running.server.inference.pid
    answer, _ = together(lambda: ask(client, "sleep 0.5"), running.stop)
    assert told(answer) == [1, 1, 7]
    client.close()
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Disconnected):
        PolicyClient(running.url, robot=ROBOT)


@pytest.mark.filterwarnings(
    "ignore:connect\\(\\) must be used:DeprecationWarning"
)  # what it does is its own affair
def test_the_stock_client_of_openpi_is_served(serving: Serving) -> None:
    client = WebsocketClientPolicy("localhost", serving(openpi=True).port)
    assert client.get_server_metadata()["robot_type"] == "sim_so101"
    observation = {"images": {name: IMAGES[name] for name in POLICY.cameras}, "state": np.array([7.0, 0, 0])}
    assert client.infer({**observation, "prompt": ""})["actions"][0].tolist() == [1, 1, 7]
    assert client.infer({**observation, "prompt": ""})["actions"].shape == (5, 3)
    with pytest.raises(RuntimeError, match="invalid: refuse: expected another task"):
        client.infer({**observation, "prompt": "refuse"})
    client._ws.close()


def test_openpi_is_not_spoken_unasked(serving: Serving) -> None:
    with pytest.raises(InvalidStatus, match="400"):
        connect(f"ws://localhost:{serving().port}", proxy=None)


def test_there_is_room_for_so_many_sessions(serving: Serving) -> None:
    running = serving(max_sessions=1)
    with PolicyClient(running.url, robot=ROBOT):
        with pytest.raises(Refused, match="1 sessions are open") as refusal:
            PolicyClient(running.url, robot=ROBOT)
        assert refusal.value.code == "busy"


def test_a_server_that_stopped_reading_is_given_up(serving: Serving) -> None:
    """A frozen process: the deadline passes, then what is sent piles up."""
    large = replace(POLICY, cameras={"front": (1200, 1600, 3), "wrist": (2, 2, 3)})
    running = serving(obedient(large))
    robot = replace(ROBOT, cameras=large.cameras)
    images = {name: np.zeros(size, np.uint8) for name, size in large.cameras.items()}
    client = PolicyClient(running.url, robot=robot)
    ask(client, images=images)
    freeze = running._loop.call_soon_threadsafe(time.sleep, 1.5)
    assert freeze is not None
    codes = []
    for _ in range(8):
        try:
            ask(client, images=images, deadline=0.1)
        except Refused as refusal:
            codes.append(refusal.code)
        except Disconnected:
            codes.append("disconnected")
            break
    assert codes[-1] == "disconnected"
    assert set(codes[:-1]) <= {"expired"}
    client.close()
