"""Behaviours that fill a data set, and the recording of one episode of each.

Worker processes import this module, so it stays free of torch and LeRobot. L frames of an episode, H, W
picture size.
"""

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from embodied.errors import UserError
from envs.metaworld import MetaworldEnv
from envs.metaworld_experts import make_expert
from envs.simulated import Expert

Acts = tuple[np.ndarray, np.ndarray]
"""The action that is executed and the one on record."""

ACTION_SIZE = 4

FRAMES_AFTER_SUCCESS = 8
"""A policy that has only seen the way to the goal leaves it again: these frames (0.1 s) teach it to stay."""

MAX_ATTEMPTS = 20
"""Even an expert that succeeds half of the time fails this often in a row once in a million episodes."""

PNG_COMPRESSION = 1
"""Level 6 takes 2.3 times as long and saves 8 %."""


PUSH_STEPS, STEPS_BETWEEN_PUSHES = 8, 30
"""A push lasts long enough to carry the hand away, and leaves the expert time to come back: its experts stop
where they are under a lasting push."""


LONGEST_FIRST_PUSH = 16
"""An episode of `disturbed` begins after a push of up to so many steps (up to 16 cm in a direction). Where
every episode begins in one pose, the way the hand has gone tells where it is going, and a policy that has
learned to read that instead of the scene does not find the object: its first action is the same always."""


class Noise:
    """Random numbers for the actions of one episode; `scale` is their standard deviation."""

    def __init__(self, rng: np.random.Generator, scale: float) -> None:
        self._rng, self._scale = rng, scale
        self._push, self._steps_left = np.zeros(ACTION_SIZE), 0

    def white(self) -> np.ndarray:
        """Independent at every step: (4,)."""
        return self._scale * self._rng.standard_normal(ACTION_SIZE)

    def push(self) -> np.ndarray:
        """Now and then pushes the hand one way for some steps; leaves the gripper alone: (4,)."""
        if self._steps_left:
            self._steps_left -= 1
        elif self._rng.random() < 1 / STEPS_BETWEEN_PUSHES:
            self._push, self._steps_left = self.white() * (1, 1, 1, 0), PUSH_STEPS - 1
        else:
            self._push = np.zeros(ACTION_SIZE)
        return self._push

    def first_push(self) -> np.ndarray:
        """Actions that carry the hand away from where it starts: (n, 4), n at most LONGEST_FIRST_PUSH."""
        steps = self._rng.integers(LONGEST_FIRST_PUSH + 1)
        return np.tile(_clip(self.white() * (1, 1, 1, 0)), (steps, 1))

    def uniform(self) -> np.ndarray:
        """Any action: (4,)."""
        return self._rng.uniform(-1.0, 1.0, ACTION_SIZE)


def _act_expert(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = expert.act(state)
    return action, action


def _act_noisy(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = _clip(expert.act(state) + noise.white())
    return action, action


def _act_disturbed(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = expert.act(state)
    return _clip(action + noise.push()), action


def _act_random(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = _clip(noise.uniform())
    return action, action


def _clip(action: np.ndarray) -> np.ndarray:
    return np.clip(action, -1.0, 1.0).astype(np.float32)


BEHAVIOURS: dict[str, Callable[[Expert, np.ndarray, Noise], Acts]] = {
    "expert": _act_expert,
    "noisy": _act_noisy,
    "disturbed": _act_disturbed,
    "random": _act_random,
}
"""What moves the robot, and the action on record: the one executed, but for `disturbed`, where it is the
expert's answer to where the disturbance has taken the hand (DART, arXiv 1703.09327)."""

DEMONSTRATIONS = ("expert", "disturbed")
"""Behaviours of which only successful episodes are kept unless failures are asked for."""


@dataclass(frozen=True, kw_only=True)
class EpisodeJob:
    """One episode to record; its content is a function of these fields alone.

    seed: of the whole data set; index: number of the episode within its task and behaviour; keep_failures:
    accept an episode without success instead of drawing another.
    """

    task: str
    behaviour: str
    index: int
    seed: int
    noise: float
    keep_failures: bool

    def draw(self, attempt: int) -> tuple[int, np.random.Generator]:
        """The environment's seed and the generator of the action noise for one attempt.

        Environment seeds lie above 2**31, away from the numbers that people evaluate on.
        """
        names = [zlib.crc32(name.encode()) for name in (self.task, self.behaviour)]
        sequence = np.random.SeedSequence([self.seed, *names, self.index, attempt])
        return 2**31 + int(sequence.generate_state(1)[0]) // 2, np.random.default_rng(sequence.spawn(1)[0])


@dataclass(kw_only=True)
class RecordedEpisode:
    """What happened: frame i is an observation, the action on record for it, and what was reached by it.

    pictures: per camera, L PNG files; state (L, 4), action (L, 4) and reward (L,) float32; success (L,) bool,
    after the action; stages: (frame at which it began, sub-goal) in order, empty without an expert;
    pixel_counts: per camera (3, 256), how often each value occurs in each colour channel.
    """

    job: EpisodeJob
    env_seed: int
    instruction: str
    attempts: int = 1
    pictures: dict[str, list[bytes]] = field(default_factory=dict)
    pixel_counts: dict[str, np.ndarray] = field(default_factory=dict)
    state: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.float32))
    action: np.ndarray = field(default_factory=lambda: np.empty((0, 4), np.float32))
    reward: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    success: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    stages: list[tuple[int, str]] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """L."""
        return len(self.action)

    @property
    def is_success(self) -> bool:
        """Whether the task was solved at any frame."""
        return bool(self.success.any())


class Recorder:
    """Records episodes in this process; keeps the environment of the last task open for the next episode."""

    def __init__(self, env_kwargs: dict[str, Any]) -> None:
        """env_kwargs: arguments of `MetaworldEnv` beside the task."""
        self._env_kwargs = env_kwargs
        self._env: MetaworldEnv | None = None

    def record(self, job: EpisodeJob) -> RecordedEpisode:
        """Record the job's episode, drawing again while it is not acceptable.

        Raises:
            UserError: no attempt succeeded.
        """
        env = self._open(job.task)
        expert = make_expert(job.task)
        for attempt in range(MAX_ATTEMPTS):
            episode = _record_attempt(env, expert, job, attempt)
            if episode.is_success or job.keep_failures:
                return episode
        steps = self._env_kwargs["max_episode_steps"]
        raise UserError(
            f"--env.task={job.task}: the expert failed {MAX_ATTEMPTS} times in a row within {steps} steps; "
            "expected a longer --env.episode_length, or --keep_failures=true"
        )

    def _open(self, task: str) -> MetaworldEnv:
        if self._env is None or self._env.task != task:
            self.close()
            self._env = MetaworldEnv(task, terminate_on_success=False, **self._env_kwargs)
        return self._env

    def close(self) -> None:
        """Free the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def _record_attempt(env: MetaworldEnv, expert: Expert, job: EpisodeJob, attempt: int) -> RecordedEpisode:
    env_seed, rng = job.draw(attempt)
    act, noise = BEHAVIOURS[job.behaviour], Noise(rng, job.noise)
    env.restart(seed=env_seed)
    for push in noise.first_push() if job.behaviour == "disturbed" else ():
        env.advance(push)
    observation = env.observe()
    expert.reset()
    episode = RecordedEpisode(
        job=job, env_seed=env_seed, instruction=env.task_description, attempts=attempt + 1
    )
    frames: list[tuple[np.ndarray, np.ndarray, float, bool]] = []
    pixels: dict[str, list[np.ndarray]] = {camera: [] for camera in observation["pixels"]}
    remaining: int | None = None
    while True:
        state = env.privileged_state()
        if job.behaviour != "random":
            _note_stage(episode.stages, len(frames), expert.stage(state))
        for camera, picture in observation["pixels"].items():
            pixels[camera].append(picture)
        executed, action = act(expert, state, noise)
        reward, _, truncated, info = env.advance(executed)
        frames.append((observation["agent_pos"], action, reward, info["is_success"]))
        if remaining is None and info["is_success"]:
            remaining = FRAMES_AFTER_SUCCESS + 1
        if remaining is not None:
            remaining -= 1
        if truncated or remaining == 0:
            break
        observation = env.observe()
    states, actions, rewards, successes = zip(*frames, strict=True)
    episode.state, episode.action = np.stack(states), np.stack(actions)
    episode.reward, episode.success = np.array(rewards, np.float32), np.array(successes, bool)
    if episode.is_success or job.keep_failures:
        for camera, pictures in pixels.items():
            episode.pictures[camera] = [_encode_png(picture) for picture in pictures]
            episode.pixel_counts[camera] = count_pixels(np.stack(pictures))
    return episode


def _note_stage(stages: list[tuple[int, str]], frame: int, text: str) -> None:
    if not stages or stages[-1][1] != text:
        stages.append((frame, text))


def _encode_png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=PNG_COMPRESSION)
    return file.getvalue()


def count_pixels(pictures: np.ndarray) -> np.ndarray:
    """Histogram of pictures (L, H, W, 3) uint8: (3, 256) int64, one row per colour channel."""
    return np.stack([np.bincount(pictures[..., channel].ravel(), minlength=256) for channel in range(3)])


_recorder: Recorder | None = None


def start_worker(env_kwargs: dict[str, Any]) -> None:
    """Prepare a worker process for `record_in_worker`."""
    global _recorder
    _recorder = Recorder(env_kwargs)


def record_in_worker(job: EpisodeJob) -> RecordedEpisode:
    """Record one episode with the worker's own environment."""
    if _recorder is None:
        raise RuntimeError("record_in_worker called before start_worker")
    return _recorder.record(job)
