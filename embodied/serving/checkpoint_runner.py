"""A checkpoint behind `PolicyRunner`: one policy in memory, what sessions remember saved and put back.

H chunk steps, A action size.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from embodied.errors import UserError
from embodied.evaluation.policy_loading import load_policy
from embodied.serving.runner import Decision, Request, check_mode, check_request
from embodied.serving.specification import Specification, from_checkpoint
from policies.latent_vla.recollection import Recollection, join
from policies.latent_vla.relative_actions import add_anchor

TYPE = "latent_vla"


@dataclass(frozen=True, kw_only=True)
class Session:
    """mode: how it decides; looks: decisions since the episode began; recollection: None before the first."""

    mode: str
    looks: int = 0
    recollection: Recollection | None = None

    def begun_anew(self) -> "Session":
        """The same at an episode's start."""
        return Session(mode=self.mode)


class CheckpointRunner:
    """Decides with a `latent_vla` checkpoint; implements `PolicyRunner`.

    The n-th decision of any episode takes the same noise, drawn from (seed, n): sessions do not depend on
    each other, nor on how they are batched (but for floating-point noise between batch sizes).
    """

    specification: Specification

    def __init__(
        self, path: Path, *, device: str | None = None, overrides: list[str] | None = None, seed: int = 0
    ) -> None:
        """Arguments as for `load_policy`; UserError for a checkpoint that cannot be used."""
        self.specification = from_checkpoint(path)
        policy, self._preprocessor, self._postprocessor = load_policy(path, device, overrides)
        if policy.config.type != TYPE:
            raise UserError(f"{path}: holds a policy of type {policy.config.type}: expected {TYPE}")
        self._policy: Any = policy
        self._seed = seed
        self._sessions: dict[str, Session] = {}

    def open(self, session: str, mode: str) -> None:
        """Begin a session."""
        check_mode(mode, self.specification)
        if session in self._sessions:
            raise UserError(f"session {session}: is open already")
        self._sessions[session] = Session(mode=mode)

    def close(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def act(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide for all requests, those alike in one pass of the policy."""
        states = [self._session_of(request) for request in requests]
        names = {request.session for request in requests}
        if len(names) < len(requests):
            raise UserError(f"{len(requests)} requests of {len(names)} sessions: expected one of each")
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, (request, state) in enumerate(zip(requests, states, strict=True)):
            left = 0 if request.prefix is None else len(request.prefix)
            alike = (state.mode, state.recollection is None, left, request.delay)
            groups.setdefault(alike, []).append(index)
        decisions: dict[int, Decision] = {}
        for indices in groups.values():
            chosen = [requests[index] for index in indices], [states[index] for index in indices]
            decisions.update(zip(indices, self._decide(*chosen), strict=True))
        return [decisions[index] for index in range(len(requests))]

    def _session_of(self, request: Request) -> Session:
        """The state that a request is decided from."""
        check_request(request, self.specification)
        session = self._sessions.get(request.session)
        if session is None:
            raise UserError(f"session {request.session}: expected one that is open")
        return session.begun_anew() if request.reset else session

    @torch.inference_mode()
    def _decide(self, requests: list[Request], sessions: list[Session]) -> list[Decision]:
        started = time.perf_counter()
        policy, mode = self._policy, sessions[0].mode
        batch = self._preprocessor(_batch(requests))
        past = [session.recollection for session in sessions if session.recollection is not None]
        policy.config.mode = mode  # one policy serves every mode: nothing else in it depends on the mode
        policy.recollection = join(past) if past else None
        chunk = policy.predict_action_chunk(
            batch,
            noise=self._noise(sessions),
            inference_delay=requests[0].delay,
            prev_chunk_left_over=None if requests[0].prefix is None else add_anchor(batch[ACTION], batch),
        )
        actions = self._postprocessor(chunk.float()).numpy()
        seconds = time.perf_counter() - started
        recollection = policy.recollection
        assert recollection is not None
        for index, (request, session) in enumerate(zip(requests, sessions, strict=True)):
            self._sessions[request.session] = replace(
                session, looks=session.looks + 1, recollection=recollection.row(index)
            )
        return [Decision(actions=chosen, seconds=seconds) for chosen in actions]

    def _noise(self, sessions: list[Session]) -> torch.Tensor:
        config = self._policy.config
        noise = [
            np.random.default_rng([self._seed, session.looks]).standard_normal(
                config.noise_shape, dtype=np.float32
            )
            for session in sessions
        ]
        return torch.from_numpy(np.stack(noise)).to(config.device)


def _batch(requests: Sequence[Request]) -> dict[str, Any]:
    """What the pre-processor takes: pictures (B, 3, H, W) in [0, 1], states, instructions, prefixes."""
    batch: dict[str, Any] = {"task": [request.task for request in requests]}
    for camera in requests[0].images:
        pictures = np.stack([request.images[camera] for request in requests])
        batch[f"{OBS_IMAGES}.{camera}"] = torch.from_numpy(pictures).movedim(-1, -3).float() / 255
    states = np.stack([request.state for request in requests]).astype(np.float32)
    batch[OBS_STATE] = torch.from_numpy(states)
    prefixes = [request.prefix for request in requests if request.prefix is not None]
    if prefixes:
        batch[ACTION] = torch.from_numpy(np.stack(prefixes).astype(np.float32))
    return batch
