"""A clock that is moved by hand, a robot that goes where it is told, a policy that answers when it is let."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embodied.serving.asking import Connected, Decided, Lost, News, Question, Unanswered
from embodied.serving.control import Controller, Patience
from embodied.serving.loop import Asking, ControlLoop
from embodied.serving.motor_log import violations
from embodied.serving.profiles import PROFILES
from embodied.serving.queue import MERGES, ActionQueue
from embodied.serving.safety import SafetyFilter
from embodied.serving.specification import Signals, Specification
from embodied.serving.wire import Offer

SO101 = PROFILES["so101"]
TICK = 1 / 30
JOINTS = Signals(names=SO101.names, units=SO101.units, low=SO101.low, high=SO101.high)
ROBOT = Specification(
    robot_type="sim_so101", cameras={"front": (2, 3, 3)}, state=JOINTS, action=JOINTS, fps=30.0
)
POLICY = replace(ROBOT, checkpoint="ab" * 32, chunk_size=10, n_action_steps=5, modes=("reactive",), rtc=True)
OFFER = Offer(session="s", mode="reactive", specification=POLICY)


@dataclass
class Clock:
    """Seconds, moved by sleeping."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeRobot:
    """Goes where it is told in one tick; keeps what it was told, and when."""

    clock: Clock
    position: np.ndarray = field(default_factory=lambda: np.zeros(6))
    times: list[float] = field(default_factory=list)
    log: list[np.ndarray] = field(default_factory=list)
    gone: bool = False
    stuck: bool = False

    def get_observation(self) -> dict[str, Any]:
        if self.gone:
            raise ConnectionError("the cable is out")
        numbers = dict(zip(SO101.names, self.position.tolist(), strict=True))
        return {**numbers, "front": np.zeros((2, 3, 3), np.uint8)}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        assert tuple(action) == SO101.names
        self.times.append(self.clock.now)
        self.log.append(np.array(list(action.values())))
        if not self.stuck:
            self.position = self.log[-1]
        return action


def wave(question: Question) -> np.ndarray:
    """From the last planned or present position of the first joint, on and back at 30 degrees a second."""
    start = question.state.astype(float) if question.prefix is None else question.prefix[0]
    chunk = np.tile(start, (POLICY.chunk_size, 1))
    chunk[:, 0] += np.arange(POLICY.chunk_size) * (1.0 if start[0] < 20 else -1.0)
    return chunk


@dataclass
class FakeAsker:
    """A policy that takes `delay` seconds, and can be frozen, cut off and brought back."""

    clock: Clock
    delay: float = 0.05
    answer: Callable[[Question], np.ndarray] = wave
    frozen: bool = False
    questions: list[Question] = field(default_factory=list)
    _under_way: Question | None = None
    _news: list[News] = field(default_factory=lambda: [Connected(offer=OFFER)])

    def ask(self, question: Question) -> None:
        self.questions.append(question)
        self._under_way = question

    def news(self) -> list[News]:
        question = self._under_way
        if question is not None and not self.frozen and self.clock.now - question.look.taken >= self.delay:
            self._news.append(Decided(question=question, actions=self.answer(question)))
            self._under_way = None
        found, self._news = self._news, []
        return found

    def time_out(self) -> None:
        assert self._under_way is not None
        self._news.append(Unanswered(question=self._under_way, reason="expired"))
        self._under_way = None

    def cut(self) -> None:
        self._under_way = None
        self._news.append(Lost(reason="gone"))

    def mend(self) -> None:
        self._news.append(Connected(offer=OFFER))


@dataclass
class Rig:
    """All of it, started."""

    clock: Clock
    robot: FakeRobot
    asker: FakeAsker
    loop: ControlLoop

    def broken_rules(self) -> list[str]:
        steps = np.diff([100.0, *self.robot.times])
        return violations(SO101, np.zeros(6), steps.tolist(), np.array(self.robot.log))


def rig(*, merge: str = "rtc", sync: bool = False, **asker: Any) -> Rig:
    clock = Clock()
    robot, policy = FakeRobot(clock), FakeAsker(clock, **asker)
    loop = ControlLoop(
        robot,
        ROBOT,
        controller=Controller(ActionQueue(MERGES[merge]), Patience(overdue=0.3, stale=0.6)),
        safety=SafetyFilter(SO101),
        asker=policy,
        asking=Asking(task="wave", sync=sync),
        clock=clock,
        sleep=clock.sleep,
    )
    loop.start()
    clock.sleep(TICK)
    return Rig(clock, robot, policy, loop)
