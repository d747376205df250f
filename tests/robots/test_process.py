"""The server of a robot's process, in this process, with a clock that the test moves."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embodied.robots import client as client_module
from embodied.robots.body import BODIES, BodyConfig, read_motor_log
from embodied.robots.cable import CableError, Kind, message, socket_path
from embodied.robots.client import RobotCable, is_listening
from embodied.robots.faults import Faults
from embodied.robots.process import DRIVER, OBSERVER, ProcessConfig, RobotServer, listen
from tests.robots.bodies import FPS, POINT, SHAPE, make_body

PERIOD = 1.0 / FPS


class Bench:
    """A server whose ticks come when the test says so; a thread answers clients meanwhile."""

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        self.log = folder / "motors.jsonl"
        self.now = 0.0
        self.body = make_body(folder, faults)
        self.listener = listen(socket_path("bench"))
        self.server = RobotServer(self.body, self.listener, idle_seconds=1.0, clock=lambda: self.now)
        self._lock, self._is_over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_over.is_set():
            with self._lock:
                self.server.serve(0.002)

    def settle(self) -> None:
        """Have the server read all that was sent so far."""
        with self._lock:
            for _ in range(5):
                self.server.serve(0.0)

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.settle()
            with self._lock:
                self.now += PERIOD
                self.server.tick_if_due()

    def sources(self) -> list[str]:
        return [line["source"] for line in read_motor_log(self.log) if line["event"] == "tick"]

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self.server.stop()
        self.server.run()
        self.listener.close()
        self.body.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setitem(BODIES, "sim_point", POINT)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[Bench] = []

    def make(faults: Faults | None = None) -> Bench:
        made.append(Bench(tmp_path, faults))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_driver_commands_and_an_observer_sees_it(bench: Callable[..., Bench]) -> None:
    robot = bench()
    driver, observer = RobotCable("bench", DRIVER), RobotCable("bench", OBSERVER)
    assert driver.description["names"] == ["dx.pos", "dy.pos"]
    assert driver.command(np.array([0.5, 0.25])) == 1
    robot.ticks(1)
    assert observer.observe().state.tolist() == [0.5, 0.25]
    assert observer.observe().pictures["corner"].shape == SHAPE
    assert observer.privileged_state().tolist() == [0.5, 0.25]
    driver.close()
    observer.close()


def test_the_robot_holds_when_its_driver_dies(bench: Callable[..., Bench]) -> None:
    robot = bench()
    driver = RobotCable("bench", DRIVER)
    driver.command(np.array([0.5, 0.25]))
    robot.ticks(1)
    driver.close()
    robot.ticks(1)
    assert robot.sources() == ["command", "hold"]


def test_the_robot_holds_when_its_driver_falls_silent(bench: Callable[..., Bench]) -> None:
    robot = bench()
    driver = RobotCable("bench", DRIVER)
    driver.command(np.array([0.5, 0.25]))
    robot.ticks(8)
    assert robot.sources() == ["command"] * 4 + ["hold"] * 4  # 0.12 s are 4.8 ticks
    driver.close()


def test_a_robot_has_one_driver_at_a_time(bench: Callable[..., Bench]) -> None:
    bench()
    driver = RobotCable("bench", DRIVER)
    with pytest.raises(CableError, match="has a driver"):
        RobotCable("bench", DRIVER)
    driver.close()
    RobotCable("bench", DRIVER).close()


def test_an_observer_cannot_move_the_robot(bench: Callable[..., Bench]) -> None:
    robot = bench()
    observer = RobotCable("bench", OBSERVER)
    observer.command(np.array([0.5, 0.25]))
    robot.ticks(1)
    assert robot.sources() == ["hold"]
    observer.close()


def test_a_dropped_connection_cannot_be_made_again_at_once(bench: Callable[..., Bench]) -> None:
    robot = bench(Faults(drop_after=3 * PERIOD, drop_for=3.5 * PERIOD))
    driver = RobotCable("bench", DRIVER)
    driver.command(np.array([0.5, 0.25]))
    robot.ticks(3)
    with pytest.raises(CableError, match="gone"):
        driver.observe()
    assert robot.sources()[-1] == "hold"
    with pytest.raises(CableError, match="unplugged"):
        RobotCable("bench", DRIVER)
    robot.ticks(4)
    again = RobotCable("bench", DRIVER)
    assert again.observe().tick == 7
    again.close()


def test_faults_and_scenes_can_be_changed_while_it_runs(bench: Callable[..., Bench]) -> None:
    robot = bench()
    driver = RobotCable("bench", DRIVER)
    driver.inject(Faults(stuck_joint="dx.pos"))
    driver.command(np.array([0.5, 0.25]))
    robot.ticks(1)
    assert driver.observe().state.tolist() == [0.0, 0.25]
    with pytest.raises(ValueError, match="stuck_joint=tail: expected one of"):
        driver.inject(Faults(stuck_joint="tail"))
    driver.reset(9)
    assert driver.observe().state.tolist() == [0.0, pytest.approx(0.09)]
    driver.close()


def test_who_sends_rubbish_is_hung_up_on_and_others_are_served(bench: Callable[..., Bench]) -> None:
    bench()
    observer = RobotCable("bench", OBSERVER)
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", message(Kind.OBSERVE), message(Kind.HELLO, b"\xff\xfe")):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(5.0)
            stranger.connect(str(socket_path("bench")))
            stranger.sendall(rubbish)
            assert stranger.recv(2) in (b"", b"EM")
    assert observer.observe().tick == 0
    observer.close()


def test_who_does_not_read_is_hung_up_on_and_the_robot_ticks_on(bench: Callable[..., Bench]) -> None:
    robot = bench()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(socket_path("bench")))
        deaf.sendall(message(Kind.HELLO, b"observer"))
        deaf.sendall(message(Kind.OBSERVE) * 1000)
        robot.ticks(3)
        assert len(robot.sources()) == 3
    observer = RobotCable("bench", OBSERVER)
    assert observer.observe().tick == 3
    observer.close()


def test_missed_ticks_are_left_out(bench: Callable[..., Bench]) -> None:
    robot = bench()
    with robot._lock:
        robot.now = 10.0
        robot.server.tick_if_due()
        robot.server.tick_if_due()
    robot.ticks(1)
    assert len(robot.sources()) == 3


def test_a_robot_that_nobody_wants_ends(bench: Callable[..., Bench]) -> None:
    robot = bench()
    cable = RobotCable("bench", OBSERVER)
    robot.ticks(FPS * 2)
    assert not robot.server._is_over
    cable.close()
    robot.ticks(FPS + 2)
    assert robot.server._is_over


def test_a_robot_that_does_not_answer_is_gone(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = bench()
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.05)
    cable = RobotCable("bench", OBSERVER)
    with robot._lock, pytest.raises(CableError, match="gone"):
        cable.observe()


def test_a_socket_that_a_killed_process_has_left_behind_is_replaced(bench: Callable[..., Bench]) -> None:
    path = socket_path("left")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert not is_listening("left")
    listen(path).close()
    path.unlink()
    bench()
    with pytest.raises(OSError, match="in use"):
        listen(socket_path("bench"))


def test_a_configuration_survives_the_command_line(tmp_path: Path) -> None:
    faults = Faults(stuck_joint="gripper.pos", drop_after=1.5)
    body = BodyConfig(robot="sim_so101", cameras=("front", "wrist"), seed=3, faults=faults)
    config = ProcessConfig(body=body, port="arm", log=tmp_path / "log.jsonl", idle_seconds=3.0)
    assert ProcessConfig.from_json(config.to_json()) == config
