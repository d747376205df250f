"""The processes of an experiment: a server, a robot, a client that drives it, and what they write down.

All of them are real: `embodied serve` and `embodied run` in processes of their own that speak over sockets of
this machine, and the process of a simulated robot, which all clients share.
"""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from lerobot.robots import RobotConfig, make_robot_from_config

from embodied.chaos.relay import LOOPBACK, Relay
from embodied.chaos.waving import waving_target
from embodied.errors import UserError
from embodied.forked import start_command, start_function
from embodied.manifest import write_json
from embodied.robots.cable import CableError
from embodied.robots.client import RobotCable, start_robot
from embodied.robots.devices.configs import SimRobotConfig
from embodied.robots.faults import Faults
from embodied.robots.process import OBSERVER
from embodied.serving.inference import Target
from embodied.serving.profiles import find_profile
from embodied.serving.run import robot_specification
from embodied.serving.serve import run_server
from embodied.serving.server import Settings
from embodied.verbs import ROBOTS

IMPORTED = ("embodied.lerobot_plugin", *ROBOTS, "embodied.serving.run", "embodied.serving.serve")
LOADING_SECONDS = 300.0
"""Until a server is ready that has to load a policy."""

ENDING_SECONDS = 30.0
ASKING_SECONDS = 1.0
POLL_SECONDS = 0.01


def poll[T](found: Callable[[], T | None], seconds: float) -> T | None:
    """What `found` returns, once it is not None; None if that takes longer than `seconds`."""
    until = time.monotonic() + seconds
    while (value := found()) is None and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return value


class Tail:
    """The rows of a file of JSON lines, from now on."""

    def __init__(self, path: Path) -> None:
        """path: may come into being later."""
        self._path = path
        self._offset = path.stat().st_size if path.is_file() else 0
        self._rows: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """Those written by now."""
        if self._path.is_file():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                *lines, _ = file.read().split(b"\n")
            self._offset += sum(len(line) + 1 for line in lines)
            self._rows += map(json.loads, lines)
        return self._rows


class _Process:
    """A process that can be killed and frozen."""

    _process: BaseProcess | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is frozen."""
        return self._process is not None and self._process.is_alive()

    def kill(self) -> None:
        """SIGKILL it, if it is there."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.join()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.is_alive():
            os.kill(self._process.pid or 0, number)


class Server(_Process):
    """What `embodied serve` does, at one port, as often as it is started."""

    def __init__(self, target: Target, log: Path) -> None:
        """target: the policy; log: of what the server says."""
        self._target, self._log = target, log
        with socket.create_server((LOOPBACK, 0)) as free:
            self.port: int = free.getsockname()[1]

    def start(self) -> None:
        """Begin to load the policy and then to serve it."""
        self._process = start_function(serve_until_told, (self._target, self.port), self._log, IMPORTED)

    def ready(self, port: int) -> float:
        """Wait until it answers at `port` that it is ready; returns when that was. UserError if it ends."""
        until = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < until and self.is_alive:
            if _is_ready(port):
                return time.monotonic()
            time.sleep(POLL_SECONDS)
        raise UserError(f"the policy cannot be served: {_last_line(self._log)}")


def serve_until_told(target: Target, port: int) -> int:
    """The server's process."""
    try:
        asyncio.run(run_server(target, Settings(port=port)))
    except UserError as error:
        print(error, flush=True)
        return 2
    return 0


def _is_ready(port: int) -> bool:
    try:
        url = f"http://{LOOPBACK}:{port}/health/ready"
        with urllib.request.urlopen(url, timeout=ASKING_SECONDS) as reply:
            return reply.status == 200
    except OSError:
        return False


def null_policy(robot: RobotConfig) -> Target:
    """How to make a policy without a checkpoint that moves this robot."""
    return waving_target(robot_specification(make_robot_from_config(robot), find_profile(robot.type)))


def robot_flags(robot: RobotConfig) -> dict[str, Any]:
    """A robot's flags as JSON has them, those that are not given left out."""

    def plain(values: list[tuple[str, Any]]) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Path) else v for k, v in values if v is not None}

    return {"type": robot.type, **asdict(robot, dict_factory=plain)}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "it said nothing"


class Client(_Process):
    """An `embodied run`. folder: of its settings (`run.json`), `result.json`, `ticks.jsonl` and `run.log`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """settings: flags by name, nested; the tick log is added to them."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", {**settings, "tick_log": str(folder / "ticks.jsonl")})
        self._folder, self.ticks = folder, Tail(folder / "ticks.jsonl")
        self.log = folder / "run.log"
        args = ["run", f"--config_path={folder / 'run.json'}", f"--json={folder / 'result.json'}"]
        self._process = start_command(args, self.log, IMPORTED)

    def end(self, *, is_asked: bool) -> int | None:
        """Wait for its end, asked for or not; returns its exit code, None if it had to be killed for it."""
        assert self._process is not None
        if is_asked:
            self._signal(signal.SIGTERM)
        self._process.join(ENDING_SECONDS)
        if self._process.is_alive():
            self.kill()
            return None
        return self._process.exitcode

    def last_line(self) -> str:
        """Of what it has said."""
        return _last_line(self.log)

    def result(self) -> dict[str, Any] | None:
        """What it has returned, if it has."""
        path = self._folder / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None


class Stage:
    """All of it. `relay` and `client` are those of the running episode; robot: how clients find it."""

    relay: Relay
    client: Client

    def __init__(self, robot: SimRobotConfig, target: Target, folder: Path) -> None:
        """robot: its port and motor log are replaced; folder: for what the processes write."""
        names = {"port": f"chaos-{os.getpid()}", "motor_log": folder / "motors.jsonl"}
        self.robot: SimRobotConfig = replace(robot, **names)
        robot, self.server = self.robot, Server(target, folder / "server.log")
        self._process = start_robot(robot.process)
        self._cable = RobotCable(robot.process.port, OBSERVER)
        self.joints: list[str] = self._cable.description["names"]
        self.instruction: str = self._cable.description["instruction"]

    def ensure_server(self) -> None:
        """Have a server that is ready, a new one if need be."""
        if not self.server.is_alive:
            self.server.start()
        self.server.ready(self.server.port)

    def inject(self, faults: Faults) -> None:
        """Have the robot fail so; who pulled its cable before waits until it can be plugged in again."""
        try:
            self._cable.inject(faults)
        except CableError:
            self._cable = self._plugged_in()
            self._cable.inject(faults)

    def _plugged_in(self) -> RobotCable:
        def attempt() -> RobotCable | None:
            try:
                return RobotCable(self.robot.process.port, OBSERVER)
            except CableError:
                return None

        cable = poll(attempt, ENDING_SECONDS)
        if cable is None:
            raise UserError(f"--robot.type={self.robot.type}: its process is gone: expected it to survive")
        return cable

    def close(self) -> None:
        """End every process."""
        self.server.kill()
        self._cable.close()
        self._process.terminate()
        self._process.wait()
