"""A policy that does what the task says, so that tests see sessions, batches, slowness and death.

Processes of inference import it by its bare name, from this folder.
"""

import gc
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied.errors import UserError
from embodied.serving.runner import Decision, Request, check_mode
from embodied.serving.specification import Specification, from_plain


class ObedientRunner:
    """Actions: looks since the reset, size of the batch, first number of the state; the tasks are orders.

    `sleep S`, `hang`, `die`, `refuse`; `sessions`, `candidates` (of this one), `threads`, `niceness` and
    `frozen` (objects that are never collected) are answered three times.
    """

    def __init__(self, specification: Specification) -> None:
        self.specification = specification
        self.looks: dict[str, int] = {}
        self.candidates: dict[str, int] = {}

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        check_mode(mode, candidates, self.specification)
        self.looks[session], self.candidates[session] = 0, candidates

    def close(self, session: str) -> None:
        self.looks.pop(session, None)

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        for request in requests:
            if request.task == "refuse":
                raise UserError("refuse: expected another task")
        return [self._decide(request, len(requests)) for request in requests]

    def _decide(self, request: Request, batch: int) -> Decision:
        order, _, seconds = request.task.partition(" ")
        if order in ("sleep", "hang"):
            time.sleep(float(seconds or 3600))
        if order == "die":
            os._exit(1)
        if order == "candidates":
            return _decision([self.candidates[request.session]] * 3)
        if order in TOLD:
            return _decision([TOLD[order](self)] * 3)
        self.looks[request.session] = 1 if request.reset else self.looks[request.session] + 1
        return _decision([self.looks[request.session], batch, request.state[0]])


TOLD = {
    "sessions": lambda runner: len(runner.looks),
    "threads": lambda runner: int(os.environ["OMP_NUM_THREADS"]),
    "niceness": lambda runner: os.nice(0),
    "frozen": lambda runner: gc.get_freeze_count(),
}


def _decision(values: list[Any]) -> Decision:
    return Decision(actions=np.tile(np.float32(values), (5, 1)), seconds=0.0)


def obedient(specification: dict[str, Any]) -> ObedientRunner:
    return ObedientRunner(from_plain(specification))


def unloadable() -> ObedientRunner:
    raise UserError("weights: expected some")
