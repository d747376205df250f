"""The client's end of a simulated robot's cable: it starts the robot's process, asks, and commands.

A size of a command; P size of the privileged state.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from embodied.rendering_backend import use_renderer
from embodied.robots.cable import (
    CableError,
    Kind,
    Parser,
    message,
    pack_numbers,
    socket_path,
    unpack_numbers,
    unpack_reading,
)
from embodied.robots.faults import Faults
from embodied.robots.process import RECEIVED_AT_ONCE, ProcessConfig
from embodied.robots.sensors import Reading

ANSWER_SECONDS = 5.0
"""A robot that has not answered by then is gone; it answers within a tick."""
START_SECONDS = 120.0
SHUT_DOWN_SECONDS = 10.0
POLL_SECONDS = 0.02


class RobotCable:
    """A connection to a robot's process, in one role. Every method raises CableError once it is gone."""

    def __init__(self, port: str, role: str) -> None:
        """Connect to the robot of this port as its `driver`, or as an `observer`.

        Raises:
            CableError: there is none, or it refuses.
        """
        self._parser = Parser()
        self._sequence = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            self._socket.connect(str(socket_path(port)))
        except OSError as error:
            self._socket.close()
            raise CableError(f"--robot.port={port}: no robot answers ({error})") from None
        self.description = self._greet(role)
        self._shapes = {name: tuple(shape) for name, shape in self.description["cameras"].items()}
        self._size = len(self.description["names"])

    def _greet(self, role: str) -> dict[str, Any]:
        return json.loads(self._ask(Kind.HELLO, role.encode()))

    def observe(self) -> Reading:
        """Return what the robot reports now."""
        return unpack_reading(self._ask(Kind.OBSERVE), self._size, self._shapes)

    def privileged_state(self) -> np.ndarray:
        """Return the simulator's own state, (P,), as the task's expert reads it."""
        return unpack_numbers(self._ask(Kind.PRIVILEGED), self.description["privileged_size"])

    def command(self, target: np.ndarray) -> int:
        """Send a command (A,); returns its number, which the motor log names. Nothing is awaited."""
        self._sequence += 1
        self._send(message(Kind.COMMAND, pack_numbers(target), self._sequence))
        return self._sequence

    def reset(self, seed: int) -> None:
        """Begin a new episode in the scene of a seed, 0 or more, the arm in its start pose."""
        self._ask(Kind.RESET, number=seed)

    def inject(self, faults: Faults) -> None:
        """Have these faults from now on, instead of those before. ValueError: there is no such joint."""
        self._ask(Kind.INJECT, json.dumps(asdict(faults)).encode())

    def shut_down(self) -> None:
        """End the robot's process."""
        self._ask(Kind.SHUT_DOWN)

    def close(self) -> None:
        """Hang up. The robot holds."""
        self._socket.close()

    def _ask(self, kind: Kind, payload: bytes = b"", number: int = 0) -> bytes:
        self._send(message(kind, payload, number))
        while True:
            try:
                data = self._socket.recv(RECEIVED_AT_ONCE)
            except OSError as error:
                raise self._gone(str(error)) from None
            if not data:
                raise self._gone("it has hung up")
            for answer, _, content in self._parser.feed(data):
                if answer != Kind.REFUSED:
                    return content
                if kind == Kind.HELLO:
                    self._socket.close()
                    raise CableError(f"the robot refuses: {content.decode()}")
                raise ValueError(content.decode())

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._gone(str(error)) from None

    def _gone(self, why: str) -> CableError:
        self._socket.close()
        return CableError(f"the robot is gone: {why}")


def start_robot(config: ProcessConfig) -> subprocess.Popen[bytes]:
    """Start a robot's process, which outlives this one, and wait until it answers.

    Raises:
        CableError: it ended or did not answer; the message holds its last line.
    """
    use_renderer()
    errors = config.log.with_suffix(".err")
    errors.parent.mkdir(parents=True, exist_ok=True)
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "embodied.robots.process", config.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if is_listening(config.port):
            return process
        time.sleep(POLL_SECONDS)
    process.kill()
    process.wait()
    raise CableError(f"the robot's process did not start: {_last_line(errors)}")


def is_listening(port: str) -> bool:
    """Whether a robot listens at this port."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path(port)))
        except OSError:
            return False
    return True


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
