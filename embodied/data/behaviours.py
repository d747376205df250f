"""Behaviours that fill a data set, and the recording of one episode of each.

Worker processes import this module, so it stays free of torch and LeRobot. L frames of an episode, H, W
picture size, S state size, A action size.
"""

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from embodied.errors import UserError
from envs.simulated import Expert, SimulatedEnv

Acts = tuple[np.ndarray, np.ndarray]
"""The action that is executed and the one on record."""

FRAMES_AFTER_SUCCESS = 8
"""A policy that has only seen the way to the goal leaves it again: these frames (0.1 s) teach it to stay."""

MAX_ATTEMPTS = 20
"""Even an expert that succeeds half of the time fails this often in a row once in a million episodes."""

PNG_COMPRESSION = 1
"""Level 6 takes 2.3 times as long and saves 8 %."""


PUSH_SECONDS, SECONDS_BETWEEN_PUSHES = 0.1, 0.375
"""A push lasts long enough to carry the hand away, and leaves the expert time to come back: its experts stop
where they are under a lasting push."""

TARGET_NOISE = 0.05
"""Where actions are targets, a unit of noise is this share of half their range: a target moves the hand there
at once, a velocity only by and by. Noise of 0.3 then displaces a hand by a few centimetres in either case;
at twice as much, ALOHA's expert never inserts the peg."""

SECONDS_PER_TARGET = 0.5
"""A robot whose random targets change faster than it follows only trembles about the middle of its range."""


LONGEST_FIRST_PUSH_SECONDS = 0.2
"""An episode of `disturbed` begins after a push of up to this duration (Meta-World: up to 16 cm). Where every
episode begins in one pose, the way the hand has gone tells where it is going, and a policy that has learned
to read that instead of the scene does not find the object: its first action is always the same."""


SECONDS_PER_WHIM = (0.1, 0.3)
"""Who wanders does one thing for this long: pursues the task, or moves in a random direction."""

MOST_PURSUIT = 0.5
"""The share of whims that pursue the task is drawn per episode, up to this: some never touch the object, some
nearly succeed, and a model of what actions do sees all that lies between."""


class Noise:
    """Random changes of the actions of one episode.

    low, high: (A,) range of an action; push_steps, steps_between_pushes: duration of a push, and how many
    steps pass on average before the next one begins.
    """

    def __init__(
        self, rng: np.random.Generator, scale: float, env: SimulatedEnv, *, wanders: bool = False
    ) -> None:
        """scale: standard deviation as a share of half the action's range, or of TARGET_NOISE of that."""
        self._rng = rng
        self.low, self.high = (
            bound.astype(np.float64) for bound in (env.action_space.low, env.action_space.high)
        )
        unit = TARGET_NOISE if env.actions_are_targets else 1
        self._deviation = scale * unit * (self.high - self.low) / 2
        self._is_pushed = np.ones(len(self.low))
        self._is_pushed[list(env.gripper_actions)] = 0
        self._fps = env.fps
        self.push_steps = max(1, round(PUSH_SECONDS * env.fps))
        self.steps_between_pushes = max(1, round(SECONDS_BETWEEN_PUSHES * env.fps))
        self._push, self._push_steps_left = np.zeros(len(self.low)), 0
        self._steps_per_target = max(1, round(SECONDS_PER_TARGET * env.fps)) if env.actions_are_targets else 1
        self._action, self._action_steps_left = np.zeros(len(self.low)), 0
        self._pursuit = MOST_PURSUIT * rng.random() if wanders else 0.0
        self._whim: np.ndarray | None = None
        self._whim_steps_left = 0

    def white(self) -> np.ndarray:
        """Independent at every step: (A,)."""
        return self._deviation * self._rng.standard_normal(len(self.low))

    def push(self) -> np.ndarray:
        """Now and then pushes the robot one way for some steps; leaves grippers alone: (A,)."""
        if self._push_steps_left:
            self._push_steps_left -= 1
        elif self._rng.random() < 1 / self.steps_between_pushes:
            self._push, self._push_steps_left = self.white() * self._is_pushed, self.push_steps - 1
        else:
            self._push = np.zeros(len(self.low))
        return self._push

    def first_push(self) -> np.ndarray:
        """A push of random length that carries the robot away from where it starts: (n, A)."""
        steps = int(self._rng.integers(round(LONGEST_FIRST_PUSH_SECONDS * self._fps) + 1))
        return np.tile(self.white() * self._is_pushed, (steps, 1))

    def uniform(self) -> np.ndarray:
        """Any action, kept for SECONDS_PER_TARGET if it is a target: (A,)."""
        if not self._action_steps_left:
            self._action = self._rng.uniform(self.low, self.high)
            self._action_steps_left = self._steps_per_target
        self._action_steps_left -= 1
        return self._action

    def wander(self, pursuit: np.ndarray) -> np.ndarray:
        """Now the action that pursues the task, now a random one that is kept for a while: (A,)."""
        if not self._whim_steps_left:
            low, high = SECONDS_PER_WHIM
            self._whim_steps_left = max(1, round(self._rng.uniform(low, high) * self._fps))
            self._whim = (
                None if self._rng.random() < self._pursuit else self._rng.uniform(self.low, self.high)
            )
        self._whim_steps_left -= 1
        return pursuit if self._whim is None else self._whim

    def clip(self, action: np.ndarray) -> np.ndarray:
        """The nearest action within the range: (A,) float32."""
        return np.clip(action, self.low, self.high).astype(np.float32)


def _act_expert(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = expert.act(state)
    return action, action


def _act_noisy(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = noise.clip(expert.act(state) + noise.white())
    return action, action


def _act_disturbed(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = expert.act(state)
    return noise.clip(action + noise.push()), action


def _act_random(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = noise.clip(noise.uniform())
    return action, action


def _act_wandering(expert: Expert, state: np.ndarray, noise: Noise) -> Acts:
    action = noise.clip(noise.wander(expert.act(state)))
    return action, action


BEHAVIOURS: dict[str, Callable[[Expert, np.ndarray, Noise], Acts]] = {
    "expert": _act_expert,
    "noisy": _act_noisy,
    "disturbed": _act_disturbed,
    "random": _act_random,
    "wandering": _act_wandering,
}
"""What moves the robot, and the action on record: the one executed, but for `disturbed`, where it is the
expert's answer to where the disturbance has taken the hand (DART, arXiv 1703.09327)."""

DEMONSTRATIONS = ("expert", "disturbed")
"""Behaviours of which only successful episodes are kept unless failures are asked for."""

FAILURES = ("wandering",)
"""Behaviours of which only failed episodes are kept."""


@dataclass(frozen=True, kw_only=True)
class EpisodeJob:
    """One episode to record; its content is a function of these fields alone.

    seed: of the whole data set; index: number of the episode within its task and behaviour; wanted: whether
    an episode must be a `success` or a `failure`, else another is drawn, or may be `any`.
    """

    task: str
    behaviour: str
    index: int
    seed: int
    noise: float
    wanted: str

    def accepts(self, is_success: bool) -> bool:
        """Whether an episode that ended so is kept."""
        return self.wanted in ("any", "success" if is_success else "failure")

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

    pictures: per camera, L PNG files; state (L, S), action (L, A) and reward (L,) float32; success (L,) bool,
    after the action; reward and success are None where nobody can tell; stages: (frame at which it began,
    sub-goal) in order, empty without an expert; pixel_counts: per camera (3, 256), how often each value
    occurs in each colour channel.
    """

    job: EpisodeJob
    env_seed: int
    instruction: str
    attempts: int = 1
    pictures: dict[str, list[bytes]] = field(default_factory=dict)
    pixel_counts: dict[str, np.ndarray] = field(default_factory=dict)
    state: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    action: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    reward: np.ndarray | None = field(default_factory=lambda: np.empty(0, np.float32))
    success: np.ndarray | None = field(default_factory=lambda: np.empty(0, bool))
    stages: list[tuple[int, str]] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """L."""
        return len(self.action)

    @property
    def is_success(self) -> bool | None:
        """Whether the task was solved at any frame; None where nobody can tell."""
        return None if self.success is None else bool(self.success.any())


class Recorder:
    """Records episodes in this process; keeps the environment of the last task open for the next episode."""

    def __init__(
        self,
        env_fns: Mapping[str, Callable[[], SimulatedEnv]],
        expert_fns: Mapping[str, Callable[[], Expert]],
    ) -> None:
        """Per task, what makes its environment, one that success does not end, and its expert."""
        self._env_fns, self._expert_fns = env_fns, expert_fns
        self._env: SimulatedEnv | None = None

    def record(self, job: EpisodeJob) -> RecordedEpisode:
        """Record the job's episode, drawing again while it is not acceptable.

        Raises:
            UserError: no attempt ended as wanted.
        """
        env = self._open(job.task)
        expert = self._expert_fns[job.task]()
        steps = 0
        for attempt in range(MAX_ATTEMPTS):
            episode = _record_attempt(env, expert, job, attempt)
            if job.accepts(bool(episode.is_success)):
                return episode
            steps = episode.num_frames
        if job.wanted == "failure":
            raise UserError(
                f"--env.task={job.task}: {MAX_ATTEMPTS} {job.behaviour} episodes in a row succeeded within "
                f"{steps} steps; expected a shorter --env.episode_length"
            )
        raise UserError(
            f"--env.task={job.task}: the expert failed {MAX_ATTEMPTS} times in a row within {steps} steps; "
            "expected a longer --env.episode_length, or --keep_failures=true"
        )

    def _open(self, task: str) -> SimulatedEnv:
        if self._env is None or self._env.task != task:
            self.close()
            self._env = self._env_fns[task]()
        return self._env

    def close(self) -> None:
        """Free the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


def _record_attempt(env: SimulatedEnv, expert: Expert, job: EpisodeJob, attempt: int) -> RecordedEpisode:
    env_seed, rng = job.draw(attempt)
    act = BEHAVIOURS[job.behaviour]
    noise = Noise(rng, job.noise, env, wanders=job.behaviour == "wandering")
    env.restart(seed=env_seed)
    while job.behaviour == "disturbed" and _is_over_after_first_push(env, expert, noise):
        env.restart(seed=env_seed)
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
        reward, terminated, truncated, info = env.advance(executed)
        frames.append((observation["agent_pos"], action, reward, info["is_success"]))
        if remaining is None and info["is_success"]:
            remaining = FRAMES_AFTER_SUCCESS + 1
        if remaining is not None:
            remaining -= 1
        if terminated or truncated or remaining == 0:
            break
        observation = env.observe()
    states, actions, rewards, successes = zip(*frames, strict=True)
    episode.state, episode.action = np.stack(states), np.stack(actions)
    episode.reward, episode.success = np.array(rewards, np.float32), np.array(successes, bool)
    if job.accepts(bool(episode.is_success)):
        for camera, pictures in pixels.items():
            episode.pictures[camera] = [encode_png(picture) for picture in pictures]
            episode.pixel_counts[camera] = count_pixels(np.stack(pictures))
    return episode


def _is_over_after_first_push(env: SimulatedEnv, expert: Expert, noise: Noise) -> bool:
    """Carry the robot somewhere else before the episode is recorded; a touch on the way there may end it."""
    expert.reset()
    for push in noise.first_push():
        rest = expert.act(env.privileged_state()) if env.actions_are_targets else 0.0
        _, terminated, truncated, _ = env.advance(noise.clip(rest + push))
        if terminated or truncated:
            return True
    return False


def _note_stage(stages: list[tuple[int, str]], frame: int, text: str) -> None:
    if not stages or stages[-1][1] != text:
        stages.append((frame, text))


def encode_png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=PNG_COMPRESSION)
    return file.getvalue()


def count_pixels(pictures: np.ndarray) -> np.ndarray:
    """Histogram of pictures (L, H, W, 3) uint8: (3, 256) int64, one row per colour channel."""
    return np.stack([np.bincount(pictures[..., channel].ravel(), minlength=256) for channel in range(3)])
