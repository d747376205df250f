"""The control loop: at every tick look, take over news, command. It waits for the clock and for nothing else.

Every command comes out of the safety filter, also when nothing can be seen, decided or reached.

A joints, S state size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from embodied.errors import UserError
from embodied.serving.asking import Connected, Decided, Impossible, Lost, News, Question
from embodied.serving.control import Controller, State
from embodied.serving.queue import Latency
from embodied.serving.safety import Rejection, SafetyFilter
from embodied.serving.specification import Specification
from embodied.serving.ticks import TickTimes

STUCK_SECONDS = 0.5
"""A joint that stays this long too far from its command is stuck, or held."""

UNREACHABLE_SECONDS = 1.0
"""Without an observation for this long, the robot is gone."""

COMMANDED = (State.RUN, State.DEGRADED)


class RobotPort(Protocol):
    """What the loop needs of a LeRobot `Robot`."""

    def get_observation(self) -> dict[str, Any]:
        """Numbers and pictures by feature name; OSError if there are none."""
        ...

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Pass a command to the motors; OSError if that is impossible."""
        ...


class AskerPort(Protocol):
    """What the loop needs of an `Asker`."""

    def ask(self, question: Question) -> None:
        """Leave a question, at once."""
        ...

    def news(self) -> list[News]:
        """What has happened, at once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One tick. seen: the observation; command: (A,) sent; action: whether a policy decided it."""

    seen: dict[str, Any]
    command: np.ndarray
    decided: bool


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What was done at one tick. time, sent: when it began, and when the command (A,) was made; looked: when
    the look was taken on which the present actions were decided; left: how many of them are still to come.
    """

    time: float
    sent: float
    state: State
    reason: str
    looked: float | None
    left: int
    command: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Asking:
    """When and how to ask. task: instruction; sync: ask only when all actions are carried out; continues:
    whether the policy is told what is left of the chunk before.
    """

    task: str
    sync: bool = False
    continues: bool = True


@dataclass(kw_only=True)
class Counts:
    """Over a run. flags: commands that the filter changed, by why; late: ticks later than half a period."""

    ticks: int = 0
    decisions: int = 0
    rejected: int = 0
    late: int = 0
    flags: dict[str, int] = field(default_factory=dict)


class ControlLoop:
    """One robot, one policy. `step` is one tick; `run` repeats it in time."""

    def __init__(
        self,
        robot: RobotPort,
        robot_specification: Specification,
        *,
        controller: Controller,
        safety: SafetyFilter,
        asker: AskerPort,
        asking: Asking,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        record: Callable[[Frame], object] | None = None,
        log: Callable[[Tick], object] | None = None,
    ) -> None:
        """robot_specification: names of its state and action, in order, and its cameras. record: is given
        what an episode consists of; log: what was done at every tick, in episodes and between them.
        """
        self._robot, self._offers = robot, robot_specification
        self.is_started = self.stands = False
        """stands: whether the last command was the one before."""
        self.controller, self._safety, self._asker, self._asking = controller, safety, asker, asking
        self._clock, self._sleep, self.record, self._log = clock, sleep, record, log
        self._latency, self.counts = Latency(), Counts()
        self.behind, self.duration = TickTimes(), TickTimes()
        """behind: what ticks are, of their due time, left out ones when that is seen; duration: of a tick."""
        self._policy: Specification | None = None
        self._pending: Question | None = None
        self._asked_at = 0
        self._first, self._asks = True, True
        self._last: np.ndarray | None = None
        self._sent: float | None = None
        self._seen: float | None = None
        self._tracking_since: float | None = None

    def start(self) -> None:
        """Take the robot as it stands. UserError if it stands where it must not be."""
        self._safety.start(self._positions(self._robot.get_observation()))
        self._sent = self._seen = self._clock()
        self.is_started = True

    def begin_episode(self) -> None:
        """Forget the episode before; the policy is told with the next question."""
        self.controller.begin_episode(self._clock())
        self._pending, self._first = None, True

    def rest(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Brake and hold for so long, or `until` says so, and ask nothing."""
        self.begin_episode()
        self._asks = False
        self.run(seconds, until=until)
        self._asks = True

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Tick for so long, or `until` says so. A tick that is missed is left out, not made up for."""
        period, begun = 1 / self._offers.fps, self._clock()
        due = begun
        while due < begun + seconds and not until():
            started = self._clock()
            self.step()
            now, due = self._clock(), due + period
            self.duration.add(now - started)
            while now - due >= period:
                self._note(now - due)
                due += period
            self._sleep(max(0.0, due - self._clock()))
            self._note(self._clock() - due)

    def _note(self, behind: float) -> None:
        """How far a tick is behind its due time, in seconds."""
        self.behind.add(behind)
        self.counts.late += behind > 0.5 / self._offers.fps

    def step(self) -> None:
        """One tick: news, look, question, command."""
        now = self._clock()
        for news in self._asker.news():
            self._take_over(news, now)
        seen = self._look(now)
        if seen is not None:
            self._ask(seen, now)
        action = self.controller.tick(now)
        command, flags = self._command(action, seen)
        self._robot.send_action(dict(zip(self._offers.action.names, command.tolist(), strict=True)))
        self._watch(flags, now)
        self.counts.ticks += 1
        for flag in flags:
            self.counts.flags[flag] = self.counts.flags.get(flag, 0) + 1
        if self.record is not None and seen is not None:
            self.record(Frame(seen=seen, command=command, decided=action is not None))
        if self._log is not None:
            self._log(self._tick(now, command))

    def _tick(self, now: float, command: np.ndarray) -> Tick:
        controller = self.controller
        assert self._sent is not None, "start comes first"
        return Tick(
            time=now,
            sent=self._sent,
            state=controller.state,
            reason=controller.history[-1].reason if controller.history else "",
            looked=controller.looked,
            left=len(controller.queue),
            command=command,
        )

    def _command(self, action: np.ndarray | None, seen: dict[str, Any] | None) -> tuple[np.ndarray, Any]:
        now = self._clock()
        assert self._sent is not None, "start comes first"
        dt, self._sent = now - self._sent, now
        if action is None or seen is None:
            command = self._safety.hold(dt)
        else:
            command = self._safety.command(action, self._positions(seen), dt)
        self.stands = self._last is not None and bool((command.action == self._last).all())
        self._last = command.action
        return command.action, command.flags

    def _look(self, now: float) -> dict[str, Any] | None:
        try:
            seen = self._robot.get_observation()
        except OSError as error:
            assert self._seen is not None, "start comes first"
            self.controller.fault(now, f"no observation: {error}")
            if now - self._seen > UNREACHABLE_SECONDS:
                raise
            return None
        self._seen = now
        return seen

    def _positions(self, seen: dict[str, Any]) -> np.ndarray:
        return np.array([seen[name] for name in self._offers.action.names], np.float64)

    def _ask(self, seen: dict[str, Any], now: float) -> None:
        """Leave a question if it is time for one."""
        if self._policy is None or self._pending is not None or not (self._asks and self._is_time()):
            return
        queue = self.controller.queue
        left = queue.left()[: self._policy.chunk_size]
        prefix = left if self._asking.continues and self._policy.rtc and len(left) else None
        self._pending = Question(
            look=self.controller.look(now),
            images={name: seen[name] for name in self._policy.cameras},
            state=np.array([seen[name] for name in self._offers.state.names], np.float32),
            task=self._asking.task,
            prefix=prefix,
            delay=0 if prefix is None else min(self._latency.steps(self._offers.fps), len(prefix)),
            reset=self._first,
        )
        self._asked_at = queue.consumed
        self._asker.ask(self._pending)

    def _is_time(self) -> bool:
        """Every `n_action_steps`, or as much earlier as the decision will take to come."""
        assert self._policy is not None
        queue = self.controller.queue
        if not len(queue) or self.controller.state not in COMMANDED:
            return True
        if self._asking.sync:
            return False
        spare = self._policy.chunk_size - self._latency.steps(self._offers.fps) - 1
        stride = max(1, min(self._policy.n_action_steps, spare))
        return queue.consumed - self._asked_at >= stride

    def _take_over(self, news: News, now: float) -> None:
        match news:
            case Connected(offer=offer):
                self._policy, self._pending, self._first = offer.specification, None, True
                self.controller.connected(now)
            case Lost(reason=reason):
                self._pending = None
                self.controller.disconnected(now, reason)
            case Impossible(reason=reason):
                self.controller.stop(now, reason)
                raise UserError(reason)
            case Decided(question=question, actions=actions):
                if question is self._pending:
                    self._pending, self._first = None, False
                    self._decide(question, actions, now)
            case _:
                self._pending = None

    def _decide(self, question: Question, actions: np.ndarray, now: float) -> None:
        self._latency.add(now - question.look.taken)
        chunk = self._safety.chunk(actions)
        if isinstance(chunk, Rejection):
            self.counts.rejected += 1
            self.controller.fault(now, chunk.reason)
        elif self.controller.decide(chunk, question.look, now):
            self.counts.decisions += 1

    def _watch(self, flags: tuple[str, ...], now: float) -> None:
        """Hold when a joint does not follow, or cannot be measured."""
        if "measurement" in flags:
            self.controller.fault(now, "a measured position is not finite")
        if "tracking" not in flags:
            self._tracking_since = None
        elif self._tracking_since is None:
            self._tracking_since = now
        elif now - self._tracking_since > STUCK_SECONDS:
            self._tracking_since = None
            self.controller.fault(now, "a joint does not follow")
