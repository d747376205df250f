"""What the robot does when: a state machine without input, output or clock, which are its driver's.

INIT       not connected to a policy that fits
READY      connected; no decision yet
RUN        the queue holds actions of a fresh decision
DEGRADED   the next decision is overdue or the connection gone: the tail of the queue, while it is fresh
HOLD       the queue is empty or stale: the safety filter brakes, then holds; every command is sent
STOP       told to: brakes and holds for good

Out of HOLD leads only a decision on a look that was taken after it began, and after the connection came back:
what was decided about a scene of before is forgotten. A joints, H chunk steps.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Self

import numpy as np

from embodied.errors import UserError
from embodied.serving.queue import ActionQueue, Chunk
from embodied.serving.specification import Specification


class State(Enum):
    """See the module."""

    INIT = "init"
    READY = "ready"
    RUN = "run"
    DEGRADED = "degraded"
    HOLD = "hold"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Look:
    """An observation that is decided on. taken: when, in seconds; begin: actions consumed by then."""

    taken: float
    begin: int


@dataclass(frozen=True, kw_only=True)
class Transition:
    """From one state to another, and why."""

    time: float
    state: State
    reason: str


@dataclass(frozen=True, kw_only=True)
class Patience:
    """In seconds. overdue: since the last decision, until the robot is DEGRADED; stale: age of the look that
    the actions were decided on, until it HOLDs whatever is left of them.
    """

    overdue: float
    stale: float

    def __post_init__(self) -> None:
        if not 0 < self.overdue <= self.stale:
            limits = f"--overdue={self.overdue} and --stale={self.stale}"
            raise UserError(f"{limits}: expected 0 < overdue <= stale, in seconds")

    @classmethod
    def suiting(
        cls, policy: Specification, fps: float, *, overdue: float | None = None, stale: float | None = None
    ) -> Self:
        """That suits a policy at a control rate.

        overdue: the time of `n_action_steps` and a half, if None; stale: of a chunk beside, if None.
        """
        overdue = overdue or 1.5 * policy.n_action_steps / fps
        return cls(overdue=overdue, stale=stale or max(overdue, policy.chunk_size / fps + overdue))


class Controller:
    """Turns looks, decisions and ticks into actions, or None: brake and hold."""

    def __init__(self, queue: ActionQueue, patience: Patience) -> None:
        self.queue, self._patience = queue, patience
        self.state = State.INIT
        self.history: list[Transition] = []
        self._connected = False
        self._not_before = -np.inf
        self._decided: Look | None = None
        self._arrived = -np.inf

    def connected(self, now: float) -> None:
        """The connection to a policy that fits has been made, or made again."""
        self._connected, self._not_before = True, now
        if self.state is State.INIT:
            self._enter(State.READY, now, "connected")

    def disconnected(self, now: float, reason: str) -> None:
        """The connection is gone; what is left of the queue is still carried out while it is fresh."""
        self._connected = False
        if self.state is State.RUN:
            self._enter(State.DEGRADED, now, reason)

    @property
    def looked(self) -> float | None:
        """When the look was taken that the last decision that counts was made on; None before the first."""
        return None if self._decided is None else self._decided.taken

    def look(self, now: float) -> Look:
        """Mark an observation that is taken now and will be decided on."""
        return Look(taken=now, begin=self.queue.consumed)

    def decide(self, actions: np.ndarray, look: Look, now: float) -> bool:
        """Take over a decision (H, A) on a look; returns whether it counts: neither old nor too late."""
        if self.state in (State.INIT, State.STOP) or look.taken < self._not_before:
            return False
        if now - look.taken > self._patience.stale:
            return False
        if not self.queue.add(Chunk(actions=actions, begin=look.begin)):
            return False
        self._decided, self._arrived = look, now
        if self.state is not State.RUN:
            self._enter(State.RUN, now, "decision")
        return True

    def tick(self, now: float) -> np.ndarray | None:
        """The action (A,) of this tick; None to brake and hold."""
        if self.state not in (State.RUN, State.DEGRADED):
            return None
        assert self._decided is not None
        if now - self._decided.taken > self._patience.stale:
            return self._hold(now, "the last look is stale")
        action = self.queue.take()
        if action is None:
            return self._hold(now, "the queue is empty")
        if self.state is State.RUN and now - self._arrived > self._patience.overdue:
            self._enter(State.DEGRADED, now, "the next decision is overdue")
        return action

    def begin_episode(self, now: float) -> None:
        """Forget what was decided; only decisions on looks from now on count."""
        self.queue.clear()
        self._not_before = now
        if self.state in (State.RUN, State.DEGRADED, State.HOLD):
            self._enter(State.READY if self._connected else State.HOLD, now, "a new episode")

    def fault(self, now: float, reason: str) -> None:
        """Something else went wrong: hold until there is a decision on a look of after it."""
        if self.state in (State.RUN, State.DEGRADED):
            self._hold(now, reason)

    def stop(self, now: float, reason: str) -> None:
        """Hold for good."""
        if self.state is not State.STOP:
            self.queue.clear()
            self._enter(State.STOP, now, reason)

    def _hold(self, now: float, reason: str) -> None:
        self.queue.clear()
        self._not_before = max(now, self._not_before)
        self._enter(State.HOLD, now, reason)

    def _enter(self, state: State, now: float, reason: str) -> None:
        self.state = state
        self.history.append(Transition(time=now, state=state, reason=reason))
