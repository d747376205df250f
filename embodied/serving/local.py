"""A policy on the robot's own computer, in a process of its own, asked as a server would be.

The process is that of `embodied.serving.inference`: killed, stopped or out of memory, it takes nothing of the
control loop with it, and its ticks come first.
"""

import itertools
import json
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from embodied.errors import UserError
from embodied.serving.client import Disconnected, Refused
from embodied.serving.inference import CAPS, Target
from embodied.serving.runner import Request
from embodied.serving.specification import PLAN, Specification, from_plain, mismatch
from embodied.serving.strict_msgpack import unpack
from embodied.serving.wire import Answer, Ask, Failure, Offer, decode, encode, pack

SESSION = "local"
LOADING_SECONDS = 300.0
HUNG_SECONDS = 10.0
"""Without an answer for this long, the process is started anew."""

_LENGTH = struct.Struct("<Q")


class LocalPolicy:
    """The child process with the one session of its policy; a `Connection` as `Asker` wants it."""

    offer: Offer

    def __init__(self, target: Target, *, robot: Specification, mode: str = "", candidates: int = 0) -> None:
        """Load the policy. UserError if it cannot be, or does not fit; Disconnected if the child dies.

        mode, candidates: how to decide, the policy's choice if empty and 0.
        """
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "embodied.serving.inference", str(theirs.fileno())]
            self._child = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        self._sequence, self._received, self._owed = itertools.count(1), bytearray(), deque[float]()
        try:
            arguments = {"function": target.function, "arguments": json.dumps(target.arguments)}
            specification = from_plain(self._exchange(arguments, LOADING_SECONDS)["specification"])
            line = mismatch(specification, robot)
            if line is not None:
                raise UserError(line)
            chosen = mode or specification.modes[0]
            opening = {"open": SESSION, "mode": chosen, "candidates": candidates}
            self._exchange(opening, LOADING_SECONDS)
        except BaseException:
            self.close()
            raise
        count = (candidates or specification.candidates) if chosen == PLAN else 0
        self.offer = Offer(session=SESSION, mode=chosen, candidates=count, specification=specification)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def act(
        self,
        *,
        images: dict[str, np.ndarray],
        state: np.ndarray,
        task: str,
        age: float,
        deadline: float,
        prefix: np.ndarray | None = None,
        delay: int = 0,
        reset: bool = False,
    ) -> Answer:
        """As `PolicyClient.act`; an answer that comes after its deadline is dropped."""
        request = Request(
            session=SESSION,
            images={name: images[name] for name in self.offer.specification.cameras},
            state=state,
            task=task,
            prefix=prefix,
            delay=delay,
            reset=reset,
        )
        ask = Ask(sequence=next(self._sequence), age=age, deadline=deadline, request=request)
        reply = self._exchange({"act": [[encode(ask), 0.0, reset]]}, deadline)
        ((_, frame),) = reply["answers"]
        answer = decode(frame, len(frame))
        if isinstance(answer, Failure):
            raise Refused(answer.code, answer.reason)
        assert isinstance(answer, Answer)
        return answer

    def close(self) -> None:
        """End the child."""
        self._socket.close()
        self._child.kill()
        self._child.wait()

    def _exchange(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Send one message and wait for its reply; replies to earlier ones, too late, come before it."""
        until = time.monotonic() + seconds
        data = pack(message)
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(_LENGTH.pack(len(data)) + data)
            self._owed.append(time.monotonic())
            while len(self._owed) > 1:
                self._receive(until)
            reply = self._receive(until)
        except TimeoutError as error:
            if self._owed and time.monotonic() - self._owed[0] > HUNG_SECONDS:
                raise Disconnected(f"the policy's process has hung for {HUNG_SECONDS:g} s") from error
            raise Refused("expired", f"no answer within {seconds:g} s") from error
        except OSError as error:
            raise Disconnected(f"the policy's process is gone: {error}") from error
        if "error" in reply:
            raise UserError(reply["error"])
        return reply

    def _receive(self, until: float) -> dict[str, Any]:
        """The next reply; TimeoutError keeps what has come of it."""
        head = self._filled(_LENGTH.size, until)
        size = _LENGTH.size + _LENGTH.unpack(head)[0]
        reply: Any = unpack(memoryview(bytes(self._filled(size, until)[_LENGTH.size :])), CAPS)
        del self._received[:size]
        self._owed.popleft()
        return reply

    def _filled(self, size: int, until: float) -> bytes:
        """The first `size` bytes that have come and were not taken."""
        while len(self._received) < size:
            self._socket.settimeout(max(1e-3, until - time.monotonic()))
            part = self._socket.recv(1 << 16)
            if not part:
                raise ConnectionError("it has ended")
            self._received += part
        return bytes(self._received[:size])
