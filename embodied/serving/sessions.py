"""Sessions over anything that decides from a look and a past: each keeps its own, none knows of the others.

B requests, H chunk steps, A action size, P steps left of a chunk.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from embodied.errors import UserError
from embodied.serving.runner import Decision, Request, check_mode, check_request
from embodied.serving.specification import Specification
from policies.real_time_chunking import prefix_weights

Past = Any
"""What an episode left behind, as its `Decider` gives and takes it: to everybody else a closed box."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """actions: (B, H, A) float32 in real units; normalized: the same as the network knows them; past: B."""

    actions: np.ndarray
    normalized: np.ndarray
    past: list[Past]


class Decider(Protocol):
    """A policy without a state of its own."""

    specification: Specification

    def noise_shape(self, mode: str, candidates: int = 0) -> tuple[int, ...]:
        """Of the noise that a decision takes per request, for `plan` among so many, its own number if 0."""
        ...

    def decide(
        self, mode: str, requests: Sequence[Request], noise: np.ndarray, past: Sequence[Past | None]
    ) -> Outcome:
        """Decide for requests that are checked; noise: (B, *noise_shape); past: all None or none.

        How many candidates there are is seen in the noise.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Session:
    """mode, candidates: how it decides; looks: since the episode began; past: None before the first."""

    mode: str
    candidates: int = 0
    looks: int = 0
    past: Past | None = None


class SessionRunner:
    """Implements `PolicyRunner` over a `Decider`.

    The n-th decision of any episode takes the same noise, drawn from (seed, n): what a session decides does
    not depend on others, nor on how they are batched (but for floating-point noise between batch sizes).
    """

    specification: Specification

    def __init__(self, decider: Decider, *, seed: int = 0) -> None:
        self.specification = decider.specification
        self._decider = decider
        self._seed = seed
        self._sessions: dict[str, Session] = {}

    def open(self, session: str, mode: str, candidates: int = 0) -> None:
        """Begin a session."""
        check_mode(mode, candidates, self.specification)
        if session in self._sessions:
            raise UserError(f"session {session}: is open already")
        self._sessions[session] = Session(mode=mode, candidates=candidates)

    def close(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide for all requests, those alike in one pass of the policy."""
        sessions = [self._session_of(request) for request in requests]
        names = {request.session for request in requests}
        if len(names) < len(requests):
            raise UserError(f"{len(requests)} requests of {len(names)} sessions: expected one of each")
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, (request, session) in enumerate(zip(requests, sessions, strict=True)):
            alike = (session.mode, session.candidates, session.past is None, request.prefix is None)
            groups.setdefault(alike, []).append(index)
        decisions: dict[int, Decision] = {}
        for indices in groups.values():
            chosen = [requests[index] for index in indices], [sessions[index] for index in indices]
            decisions.update(zip(indices, self._decide(*chosen), strict=True))
        return [decisions[index] for index in range(len(requests))]

    def _session_of(self, request: Request) -> Session:
        """The state that a request is decided from."""
        check_request(request, self.specification)
        session = self._sessions.get(request.session)
        if session is None:
            raise UserError(f"session {request.session}: expected one that is open")
        return replace(session, looks=0, past=None) if request.reset else session

    def _decide(self, requests: list[Request], sessions: list[Session]) -> list[Decision]:
        started = time.perf_counter()
        mode = sessions[0].mode
        shape = self._decider.noise_shape(mode, sessions[0].candidates)
        noise = np.stack([draw_noise(shape, self._seed, session.looks) for session in sessions])
        outcome = self._decider.decide(mode, requests, noise, [session.past for session in sessions])
        seconds = time.perf_counter() - started
        for request, session, past in zip(requests, sessions, outcome.past, strict=True):
            self._sessions[request.session] = replace(session, looks=session.looks + 1, past=past)
        return [Decision(actions=actions, seconds=seconds) for actions in outcome.actions]


def draw_noise(shape: tuple[int, ...], seed: int, look: int) -> np.ndarray:
    """Noise of unit variance, float32, of an episode's seed and a decision's number in it."""
    return np.random.default_rng([seed, look]).standard_normal(shape, dtype=np.float32)


def stack_prefixes(
    requests: Sequence[Request], specification: Specification
) -> tuple[np.ndarray, np.ndarray]:
    """What is left of former chunks (B, H, A) in real units, and its weights (B, H): 0 for the rest."""
    shape = (len(requests), specification.chunk_size, len(specification.action.names))
    prefixes, weights = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
    for row, request in enumerate(requests):
        if request.prefix is not None:
            left = len(request.prefix)
            prefixes[row, :left] = request.prefix
            weights[row, :left] = prefix_weights(left, request.delay)
    return prefixes, weights
