"""A policy that needs no checkpoint and moves the robot all the time, so that one sees it stop.

H chunk steps, A actions.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embodied.serving.inference import Target
from embodied.serving.runner import Decision, Request, check_mode, check_request, held_joints
from embodied.serving.specification import Specification, from_plain, to_plain

SPEED = 0.15
"""Of the first joint, in shares of its range a second: 33 degrees a second for an SO-101."""

CHUNK, STEPS = 20, 10
"""Actions of a decision, and how many are meant to be executed."""


class WavingRunner:
    """Moves the first joint to and fro about the middle of its range and holds the others.

    It goes on from the committed actions or, without any, from where the robot is, and remembers nothing.
    """

    def __init__(self, specification: Specification) -> None:
        """specification: of a robot whose actions are positions in its state, the first within a range."""
        self.specification = specification
        self._held = held_joints(specification.state, specification.action)
        low, high = specification.action.low[0], specification.action.high[0]
        self._middle, self._step = (low + high) / 2, SPEED * (high - low) / specification.fps

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        """Begin a session; there is one mode."""
        check_mode(mode, candidates, self.specification)

    def close(self, session: str) -> None:
        """End a session, of which nothing is kept."""

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        """A chunk (H, A) for every request; UserError for one that does not fit."""
        for request in requests:
            check_request(request, self.specification)
        return [Decision(actions=self._wave(request), seconds=0.0) for request in requests]

    def _wave(self, request: Request) -> np.ndarray:
        start = request.state[self._held] if request.prefix is None else request.prefix[0]
        chunk = np.tile(np.asarray(start, np.float32), (self.specification.chunk_size, 1))
        direction = 1 if start[0] < self._middle else -1
        chunk[:, 0] += direction * self._step * np.arange(len(chunk))
        return chunk


def waving(specification: dict[str, Any]) -> WavingRunner:
    """The policy, of a specification as a plain map; made in the process of inference."""
    return WavingRunner(from_plain(specification))


def waving_target(robot: Specification) -> Target:
    """How to serve the policy for a robot."""
    policy = replace(robot, chunk_size=CHUNK, n_action_steps=STEPS, modes=("reactive",), rtc=True)
    return Target(function=f"{__name__}:waving", arguments={"specification": to_plain(policy)})
