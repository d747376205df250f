"""The one environment-policy loop: episodes wait in a queue, seats run them, an agent decides for all seats.

The environment renders once per chunk of n actions, when the agent looks. A seat takes the next episode, of
any task, as soon as its own ends. No torch in here: worker processes import this module and must start fast.
B seats that are running, n steps of a chunk, A action size.
"""

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from envs.chunk import ChunkWrapper
from envs.simulated import Expert

EnvFn = Callable[[], Any]
ExpertFn = Callable[[], Expert]
Stages = list[tuple[int, str]]
RECORDED_FPS = 20


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One episode to run: a task, the environment's seed, and whether to keep its pictures."""

    task: str
    seed: int
    record: bool = False


@dataclass(kw_only=True)
class EpisodeResult:
    """What happened in one episode.

    reward: sum over steps; decision_seconds: duration of each decision, made for a batch of seats at once;
    frames: (F, H, W, 3) uint8 pictures at RECORDED_FPS, cameras side by side, if the episode was recorded;
    stages: then also (step at which it began, sub-goal) in order, as the task's expert reads the scene.
    """

    episode: Episode
    instruction: str = ""
    success: bool = False
    steps: int = 0
    reward: float = 0.0
    decision_seconds: list[float] = field(default_factory=list)
    frames: np.ndarray | None = None
    stages: Stages = field(default_factory=list)


class Agent(Protocol):
    """Decides for a batch of running episodes.

    chunk_steps: n, the steps executed per decision. stateful: it carries state from one decision to the next,
    so that episodes start together and their batch keeps its size and order until all have ended. sociable:
    what it decides for an episode depends on the others of its batch, so that none can be run alone.
    """

    chunk_steps: int
    stateful: bool
    sociable: bool

    def begin(self, action_space: gym.spaces.Box) -> None:
        """Prepare for new episodes: called once, or before each batch of episodes if stateful."""
        ...

    def act(
        self, observation: dict[str, Any], instructions: list[str], episodes: list[Episode], looks: list[int]
    ) -> np.ndarray:
        """Choose chunks (B, n, A) in the environment's units.

        observation: as the environment gives it, each array with a leading B; looks: how many decisions each
        episode has had before.
        """
        ...


class Seat(gym.Env):
    """One worker's environment: runs one episode after another, of any task, and idles in between.

    Episodes come in through `reset(options={"episodes": {seat: Episode}})`. Their end goes out as
    `info["ended"]`, never as `terminated`, because a vector environment acts on that by itself.
    """

    def __init__(
        self,
        env_fns: Mapping[str, EnvFn],
        seat: int,
        chunk_steps: int,
        expert_fns: Mapping[str, ExpertFn] | None = None,
    ) -> None:
        self._env_fns = env_fns
        self._expert_fns = expert_fns or {}
        self._seat = seat
        self._chunk_steps = chunk_steps
        self._open(next(iter(env_fns)))
        self.metadata = self._env.metadata
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space
        self._ended = True
        self._frames: list[np.ndarray] | None = None
        self._expert: Expert | None = None
        self._stages: Stages = []
        self._steps = 0

    def _open(self, task: str) -> None:
        self._task = task
        env = self._env_fns[task]()
        self._record_steps = max(1, round(env.metadata["render_fps"] / RECORDED_FPS))
        self._simulation = env
        self._env = ChunkWrapper(env, self._chunk_steps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the episode that `options` holds for this seat."""
        super().reset(seed=seed)
        episode: Episode = (options or {})["episodes"][self._seat]
        if episode.task != self._task:
            self._env.close()
            self._open(episode.task)
        self._observation, _ = self._env.reset(seed=episode.seed)
        instruction = self._simulation.task_description
        self._ended = False
        self._frames = [self._picture()] if episode.record else None
        self._steps, self._stages, self._expert = 0, [], None
        if episode.record and self._task in self._expert_fns:
            self._expert = self._expert_fns[self._task]()
            self._expert.reset()
            self._note_stage(self._expert)
        return self._observation, {"instruction": instruction}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Run one chunk (n, A); an idle seat ignores it."""
        reward, steps, success = 0.0, 0, False
        # Pictures do not change the physics: a recorded episode runs in shorter pieces with the same result.
        piece = self._chunk_steps if self._frames is None else self._record_steps
        for start in range(0, len(action), piece):
            if self._ended:
                break
            part = action[start : start + piece]
            self._observation, gained, terminated, truncated, part_info = self._env.step(part)
            reward += float(gained)
            steps += part_info["steps"]
            success = success or bool(part_info["is_success"])
            self._ended = terminated or truncated
            self._steps += part_info["steps"]
            if self._frames is not None:
                self._frames.append(self._picture())
            if self._expert is not None and not self._ended:
                self._note_stage(self._expert)
        info = {"steps": steps, "is_success": success, "ended": self._ended}
        return self._observation, reward, False, False, info

    def _note_stage(self, expert: Expert) -> None:
        """The sub-goal at a picture of the film: an expert asked this seldom goes back to one later."""
        text = expert.stage(self._simulation.privileged_state())
        if not self._stages or self._stages[-1][1] != text:
            self._stages.append((self._steps, text))

    def _picture(self) -> np.ndarray:
        return np.concatenate(list(self._observation["pixels"].values()), axis=1)

    def recording(self) -> tuple[np.ndarray | None, Stages]:
        """Pictures of the episode so far, (F, H, W, 3) uint8, and its stages; None if it is not recorded."""
        return None if self._frames is None else np.stack(self._frames), self._stages

    def close(self) -> None:
        """Close the environment of the current task."""
        self._env.close()


@contextmanager
def hidden_main_module() -> Iterator[None]:
    """Keep new processes from importing the main script again.

    Workers need nothing from it, and what it imports (LeRobot, torch) would take most of their start.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _open_seats(
    env_fns: Mapping[str, EnvFn],
    chunk_steps: int,
    count: int,
    expert_fns: Mapping[str, ExpertFn] | None = None,
) -> Iterator[gym.vector.VectorEnv]:
    """One process per seat; a single seat stays in this process."""

    def seat_fn(seat: int) -> Callable[[], Seat]:
        return lambda: Seat(env_fns, seat, chunk_steps, expert_fns)

    fns = [seat_fn(seat) for seat in range(count)]
    disabled = gym.vector.AutoresetMode.DISABLED
    if count == 1:
        seats: gym.vector.VectorEnv = gym.vector.SyncVectorEnv(fns, autoreset_mode=disabled)
    else:
        loaded_envs = [name for name in sys.modules if name.startswith("envs.")]
        multiprocessing.set_forkserver_preload([__name__, *loaded_envs])
        with hidden_main_module():
            seats = gym.vector.AsyncVectorEnv(fns, context="forkserver", autoreset_mode=disabled)
    failed = True
    try:
        yield seats
        failed = False
    finally:
        seats.close(terminate=failed)


def default_num_envs(episodes: int) -> int:
    """Twice the cores, so that seats fill the time the policy takes, but no more than there are episodes."""
    return min(2 * (os.cpu_count() or 1), episodes)


def rollout(
    env_fns: Mapping[str, EnvFn],
    agent: Agent,
    episodes: Sequence[Episode],
    *,
    num_envs: int | None = None,
    expert_fns: Mapping[str, ExpertFn] | None = None,
    description: str = "rollout",
    progress: bool = True,
    finished: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run every episode to its end and return the results in the order of `episodes`.

    env_fns: per task, a picklable function that builds its environment (of gymnasium, with `advance`,
    `observe` and `task_description`; observation `pixels` a dict of pictures). num_envs: seats,
    `default_num_envs` if None; more than one run in processes of their own. expert_fns: per task,
    a picklable function that makes its expert, who names the sub-goals of recorded episodes. finished: told
    of every episode when it ends, in that order. A result
    depends on its episode alone, not on num_envs (but for floating-point noise between batch sizes), unless
    a stateful agent draws random numbers.
    """
    count = default_num_envs(len(episodes)) if num_envs is None else min(num_envs, len(episodes))
    # A terminal is redrawn often; a log file gets a line every half minute.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    bar = tqdm(
        total=len(episodes),
        desc=description,
        unit="episode",
        mininterval=interval,
        maxinterval=interval,
        disable=not progress,
    )
    with bar, _open_seats(env_fns, agent.chunk_steps, count, expert_fns) as seats:
        return _Loop(seats, agent, episodes, bar, finished).run()


@dataclass(kw_only=True)
class _Seated:
    index: int
    result: EpisodeResult
    ended: bool = False


class _Loop:
    """State of one rollout: which seat runs which episode."""

    def __init__(
        self,
        seats: gym.vector.VectorEnv,
        agent: Agent,
        episodes: Sequence[Episode],
        bar: Any,
        finished: Callable[[EpisodeResult], None] | None,
    ) -> None:
        self._seats: Any = seats
        self._tell = finished
        self._agent = agent
        self._waiting = deque(enumerate(episodes))
        self._bar = bar
        self._batch: dict[int, _Seated] = {}
        """Seats that the agent decides for. In a stateful agent's batch, an ended episode keeps its place."""
        self._observation: Any = None
        self._finished: dict[int, EpisodeResult] = {}

    def run(self) -> list[EpisodeResult]:
        self._agent.begin(self._seats.single_action_space)
        while True:
            self._fill_seats()
            if not self._batch:
                return [self._finished[index] for index in sorted(self._finished)]
            self._step()
            self._empty_seats()

    def _fill_seats(self) -> None:
        if not self._waiting or (self._agent.stateful and self._batch):
            return
        starting: dict[int, Episode] = {}
        for seat in range(self._seats.num_envs):
            if seat not in self._batch and self._waiting:
                index, episode = self._waiting.popleft()
                starting[seat] = episode
                self._batch[seat] = _Seated(index=index, result=EpisodeResult(episode=episode))
        if not starting:
            return
        self._batch = dict(sorted(self._batch.items()))
        if self._agent.stateful:
            self._agent.begin(self._seats.single_action_space)
        mask = np.isin(np.arange(self._seats.num_envs), list(starting))
        self._observation, info = self._seats.reset(options={"reset_mask": mask, "episodes": starting})
        for seat in starting:
            self._batch[seat].result.instruction = info["instruction"][seat]

    def _step(self) -> None:
        seats, results = list(self._batch), [seated.result for seated in self._batch.values()]
        started = time.perf_counter()
        chunks = self._agent.act(
            _take(self._observation, seats),
            [result.instruction for result in results],
            [result.episode for result in results],
            [len(result.decision_seconds) for result in results],
        )
        seconds = time.perf_counter() - started
        actions = np.zeros(self._seats.action_space.shape, dtype=np.float32)
        actions[seats] = chunks
        self._observation, rewards, _, _, info = self._seats.step(actions)
        for seat, seated in self._batch.items():
            if seated.ended:
                continue
            seated.result.decision_seconds.append(seconds)
            seated.result.reward += float(rewards[seat])
            seated.result.steps += int(info["steps"][seat])
            seated.result.success |= bool(info["is_success"][seat])
            seated.ended = bool(info["ended"][seat])

    def _empty_seats(self) -> None:
        ended = {seat: seated for seat, seated in self._batch.items() if seated.ended}
        new = {seat: seated for seat, seated in ended.items() if seated.index not in self._finished}
        if any(seated.result.episode.record for seated in new.values()):
            recordings = self._seats.call("recording")
            for seat, seated in new.items():
                seated.result.frames, seated.result.stages = recordings[seat]
        for seated in new.values():
            self._finished[seated.index] = seated.result
            if self._tell is not None:
                self._tell(seated.result)
        self._bar.update(len(new))
        if new:
            successes = sum(result.success for result in self._finished.values())
            self._bar.set_postfix_str(f"success {successes / len(self._finished):.0%}", refresh=False)
        if not self._agent.stateful or len(ended) == len(self._batch):
            for seat in ended:
                del self._batch[seat]


def _take(observation: Any, seats: list[int]) -> Any:
    """The rows of a batched observation, nested like it, that belong to `seats`."""
    if isinstance(observation, Mapping):
        return {key: _take(value, seats) for key, value in observation.items()}
    return observation[seats]
