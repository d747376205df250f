"""A policy that waves the first joint, for processes of inference that the tests start."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied.serving.runner import Decision, Request
from embodied.serving.specification import Specification, from_plain

SECONDS = 0.03


class WavingRunner:
    """Goes on from where the robot is, or will be, at 30 degrees a second; `task` may be `sleep S` once."""

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.slept = False

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        pass

    def close(self, session: str) -> None:
        pass

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        return [self._decide(request) for request in requests]

    def _decide(self, request: Request) -> Decision:
        order, _, seconds = request.task.partition(" ")
        time.sleep(float(seconds) if order == "sleep" and not self.slept and not request.reset else SECONDS)
        self.slept |= not request.reset
        start = request.state if request.prefix is None else request.prefix[0]
        chunk = np.tile(np.float32(start), (self.specification.chunk_size, 1))
        chunk[:, 0] += np.arange(len(chunk)) * (1.0 if start[0] < 20 else -1.0)
        return Decision(actions=chunk, seconds=SECONDS)


def waving(specification: dict[str, Any]) -> WavingRunner:
    return WavingRunner(from_plain(specification))
