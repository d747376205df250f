"""A policy as server and control loop see it: numpy in, numpy out, state per session.

Imports nothing but numpy, so that an exported policy runs without the training dependencies.

H chunk steps, A action size, S state size, P steps left of the chunk before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embodied.errors import UserError
from embodied.serving.specification import PLAN, Signals, Specification

FEWEST_CANDIDATES = 3
"""For a search among fewer there is nothing to narrow down."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One look of one session.

    images: by camera name, (H, W, 3) uint8; state: (S,) float32 in the robot's own units. prefix: (P, A) in
    real units, what is left of the chunk before, from the moment of this look on; the first `delay` of these
    will have been executed when the decision comes, so that it has to begin with them. reset: an episode
    begins, what the session remembers is forgotten first.
    """

    session: str
    images: dict[str, np.ndarray]
    state: np.ndarray
    task: str
    prefix: np.ndarray | None = None
    delay: int = 0
    reset: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """actions: (H, A) float32 in real units, the first for the moment of the look; seconds: it took."""

    actions: np.ndarray
    seconds: float


class PolicyRunner(Protocol):
    """Decides for sessions, each of which has a state of its own."""

    specification: Specification

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        """Begin a session that decides by `mode`; UserError if it is open, or for an unknown mode.

        candidates: chunks that `plan` chooses among, the policy's own number if 0.
        """
        ...

    def close(self, session: str) -> None:
        """End a session and forget its state; one that is not open is no error."""
        ...

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide for a micro-batch of different sessions, in its order.

        Raises UserError for a session that is not open, and for what does not fit the specification; then no
        session's state has changed.
        """
        ...


def check_mode(mode: str, candidates: int, specification: Specification) -> None:
    """Raise UserError for a mode that the policy does not have, or candidates that it cannot choose among."""
    if mode not in specification.modes:
        raise UserError(f"mode {mode[:40]}: expected one of {', '.join(specification.modes)}")
    if not candidates:
        return
    if mode != PLAN:
        raise UserError(f"candidates {candidates}: expected 0, mode {mode} has none to choose among")
    if candidates < FEWEST_CANDIDATES:
        raise UserError(f"candidates {candidates}: expected at least {FEWEST_CANDIDATES}")


def check_request(request: Request, specification: Specification) -> None:
    """Raise UserError naming the first part of a request that does not fit."""
    sizes: dict[str, tuple[int, ...]] = {
        f"camera {name}": size for name, size in specification.cameras.items()
    }
    found: dict[str, np.ndarray] = {f"camera {name}": image for name, image in request.images.items()}
    sizes["state"], found["state"] = (len(specification.state.names),), request.state
    for name in [*sizes, *found]:
        if name not in sizes:
            raise UserError(f"{name}: expected only {', '.join(sizes)}")
        if name not in found:
            raise UserError(f"{name} is missing: expected {', '.join(sizes)}")
        if found[name].shape != sizes[name]:
            raise UserError(f"{name} of shape {found[name].shape}: expected {sizes[name]}")
    for name, image in request.images.items():
        if image.dtype != np.uint8:
            raise UserError(f"camera {name} of {image.dtype}: expected uint8")
    if not np.isfinite(request.state).all():
        raise UserError("state: expected finite numbers")
    _check_prefix(request, specification)


def _check_prefix(request: Request, specification: Specification) -> None:
    prefix, left = request.prefix, 0
    if prefix is not None:
        if not specification.rtc:
            raise UserError("prefix: expected none, this policy cannot continue a chunk")
        size, left = len(specification.action.names), len(prefix)
        if prefix.ndim != 2 or prefix.shape[1] != size or not 1 <= left <= specification.chunk_size:
            expected = f"(1 to {specification.chunk_size}, {size})"
            raise UserError(f"prefix of shape {prefix.shape}: expected {expected}")
        if not np.isfinite(prefix).all():
            raise UserError("prefix: expected finite numbers")
    if not 0 <= request.delay <= left:
        raise UserError(f"delay {request.delay}: expected 0 to {left}, the steps of the prefix")


class NullRunner:
    """Holds still: each action is the present position of the joint of its name. For tests of the load."""

    def __init__(self, specification: Specification) -> None:
        """Raises UserError if an action has no state of its name to hold."""
        self.specification = specification
        self._held = held_joints(specification.state, specification.action)
        self._open: set[str] = set()

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        """Begin a session; how it decides makes no difference."""
        check_mode(mode, candidates, self.specification)
        if session in self._open:
            raise UserError(f"session {session}: is open already")
        self._open.add(session)

    def close(self, session: str) -> None:
        """End a session."""
        self._open.discard(session)

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        """Hold the position of every request."""
        for request in requests:
            if request.session not in self._open:
                raise UserError(f"session {request.session}: expected one that is open")
            check_request(request, self.specification)
        shape = (self.specification.chunk_size, len(self._held))
        return [
            Decision(
                actions=np.broadcast_to(request.state[self._held], shape).astype(np.float32), seconds=0.0
            )
            for request in requests
        ]


def held_joints(state: Signals, action: Signals) -> list[int]:
    """For each action the index of the state of the same name; UserError for an action without one."""
    for name in action.names:
        if name not in state.names:
            raise UserError(f"action {name}: expected one of the states, {', '.join(state.names)}, to hold")
    return [state.names.index(name) for name in action.names]
