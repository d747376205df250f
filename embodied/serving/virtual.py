"""The control loop in simulated time: a clock that sleeping moves, a robot that ticks with it, a slow policy.

Everything between the look and the motors is that of `embodied run`; only seconds are not waited for, so that
an episode takes as long as its computations, and runs the same again.

A joints, H chunk steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied.serving.asking import Connected, Decided, News, Question, Unanswered
from embodied.serving.runner import PolicyRunner, Request
from embodied.serving.specification import Specification
from embodied.serving.wire import Offer
from envs.so101 import ARM, SO101Env
from envs.so101_arm import joint_numbers

SESSION = "virtual"


@dataclass
class VirtualClock:
    """Seconds that pass by sleeping."""

    now: float = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let so many pass."""
        self.now += seconds


class _Seen(dict[str, Any]):
    """An observation whose pictures are taken when they are looked at, of the present scene."""

    def __init__(self, numbers: dict[str, float], look: Callable[[], dict[str, Any]]) -> None:
        super().__init__(numbers)
        self._look = look

    def __missing__(self, camera: str) -> Any:
        self.update(self._look())
        return self[camera]


class VirtualRobot:
    """An SO-101 in its scene: a command is one control step, and the next look sees where that has led.

    commands: (A,) each, and times, in seconds, of the episode; start: (A,) where the arm stood.
    """

    def __init__(self, env: SO101Env, clock: VirtualClock) -> None:
        self._env, self._clock = env, clock

    def reset(self, seed: int) -> None:
        """Begin an episode in the scene of a seed."""
        self._env.restart(seed=seed)
        self.is_over = self.is_success = False
        self.commands: list[np.ndarray] = []
        self.times: list[float] = []
        self.begun, self.start = self._clock(), self._positions()

    def get_observation(self) -> dict[str, Any]:
        """Joints, and pictures on demand."""
        numbers = dict(zip(self._env.state_names, self._positions().tolist(), strict=True))
        return _Seen(numbers, lambda: self._env.observe()["pixels"])

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Simulate one control step; after the episode's end nothing moves."""
        if not self.is_over:
            self.commands.append(np.array([action[name] for name in self._env.action_names]))
            self.times.append(self._clock())
            _, terminated, truncated, info = self._env.advance(self.commands[-1])
            self.is_over, self.is_success = terminated or truncated, bool(info["is_success"])
        return action

    def _positions(self) -> np.ndarray:
        return joint_numbers(self._env.privileged_state()[ARM]).astype(np.float32).astype(np.float64)


class VirtualAsker:
    """A policy in this process whose decisions come when their delay is over, or not before the deadline.

    delay: from the number of a question in the episode, 0 the first, to seconds.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        clock: VirtualClock,
        *,
        mode: str,
        delay: Callable[[int], float],
        deadline: float,
    ) -> None:
        self._runner, self._clock, self._delay, self._deadline = runner, clock, delay, deadline
        runner.close(SESSION)
        runner.open(SESSION, mode)
        offer = Offer(session=SESSION, mode=mode, specification=runner.specification)
        self._due: list[tuple[float, News]] = [(clock(), Connected(offer=offer))]
        self._asked = 0

    def ask(self, question: Question) -> None:
        """Decide at once, answer later."""
        delay = self._delay(self._asked)
        self._asked += 1
        if delay >= self._deadline:
            late = Unanswered(question=question, reason=f"no answer within {self._deadline:g} s")
            self._due.append((self._clock() + self._deadline, late))
            return
        request = Request(
            session=SESSION,
            images=question.images,
            state=question.state,
            task=question.task,
            prefix=None if question.prefix is None else question.prefix.astype(np.float32),
            delay=question.delay,
            reset=question.reset,
        )
        (decision,) = self._runner.act([request])
        self._due.append((self._clock() + delay, Decided(question=question, actions=decision.actions)))

    def news(self) -> list[News]:
        """What has come by now."""
        now = self._clock() + 1e-9
        come = [news for due, news in self._due if due <= now]
        self._due = [(due, news) for due, news in self._due if due > now]
        return come


def offers(env: SO101Env, policy: Specification, fps: float) -> Specification:
    """What this robot offers, in the policy's own units and pictures."""
    names = env.action_names
    assert policy.action.names == names, policy.action.names
    return Specification(
        robot_type=env.robot_type, cameras=policy.cameras, state=policy.state, action=policy.action, fps=fps
    )
