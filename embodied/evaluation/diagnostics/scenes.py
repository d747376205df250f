"""What diagnostics see of the simulator: episodes of experts with pictures, states on the way to success.

All that is seen depends on seeds alone. F frames, H, W picture size, A action size.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.utils.constants import OBS_IMAGES
from tqdm import tqdm

from embodied.data.behaviours import BEHAVIOURS, Noise
from embodied.evaluation.diagnostics.model import Observation
from embodied.lerobot_plugin import SimulatedEnvConfig
from embodied.rollout import Agent, Episode
from envs.simulated import Expert, SimulatedEnv

NOISE = 0.3
"""Of the noisy expert, as `embodied collect` takes it."""

Act = Callable[[int], np.ndarray]
"""The action at a step of the episode, (A,)."""


def counted(number: int, what: str, unit: str = "episode") -> Iterable[int]:
    """`range(number)` with a progress bar, redrawn often on a terminal and seldom in a log file."""
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(range(number), desc=what, unit=unit, mininterval=interval, maxinterval=interval)


def pictures_of(observations: Iterable[Observation]) -> dict[str, np.ndarray]:
    """Frames (F, H, W, 3) per camera, under the names that data sets give them."""
    seen = list(observations)
    return {
        f"{OBS_IMAGES}.{camera}": np.stack([one["pixels"][camera] for one in seen])
        for camera in seen[0]["pixels"]
    }


def states_of(observations: Iterable[Observation]) -> np.ndarray:
    """Proprioceptive states (F, S)."""
    return np.stack([one["agent_pos"] for one in observations])


class Stage:
    """The environment of one task, its expert, and who else can act in it."""

    def __init__(self, config: SimulatedEnvConfig, task: str, policy: Agent | None = None) -> None:
        self.task, self.length = task, config.length(task)
        self.env: SimulatedEnv = config.env_fn(task, terminate_on_success=False)()
        self._expert: Expert = config.expert_fn(task)()
        self._policy = policy

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: Any) -> None:
        self.env.close()

    def begin(self, seed: int, behaviour: str) -> Act:
        """Start an episode; returns who acts in it: a key of BEHAVIOURS, or `policy`."""
        if behaviour == "policy":
            assert self._policy is not None
            return self.begin_agent(self._policy, seed)
        self.env.restart(seed=seed)
        self._expert.reset()
        noise = Noise(np.random.default_rng([seed, 1]), NOISE, self.env)
        act = BEHAVIOURS[behaviour]
        return lambda step: act(self._expert, self.env.privileged_state(), noise)[0]

    def begin_agent(self, agent: Agent, seed: int, shown: Mapping[str, Any] | None = None) -> Act:
        """Start an episode in which an agent acts, who is shown some things beside each observation."""
        self.env.restart(seed=seed)
        episode, chunk = Episode(task=self.task, seed=seed), np.empty((0, 0))
        agent.begin(self.env.action_space)

        def act(step: int) -> np.ndarray:
            nonlocal chunk
            look, place = divmod(step, agent.chunk_steps)
            if place == 0:
                seen = _batched({**self.env.observe(), **(shown or {})})
                chunk = agent.act(seen, [self.env.task_description], [episode], [look])[0]
            return chunk[place]

        return act

    def steps_to_success(self, seed: int, behaviour: str = "expert") -> int:
        """How many steps an expert takes, those of a whole episode if it fails. Nothing is rendered."""
        act = self.begin(seed, behaviour)
        for step in range(self.length):
            _, terminated, truncated, info = self.env.advance(act(step))
            if terminated or truncated or info["is_success"]:
                return step + 1
        return self.length


def _batched(observation: Mapping[str, Any]) -> dict[str, Any]:
    """The observation as a batch of one."""
    return {
        key: _batched(value) if isinstance(value, Mapping) else np.asarray(value)[None]
        for key, value in observation.items()
    }


@dataclass(frozen=True, kw_only=True)
class Watched:
    """An episode as a camera and the simulator saw it, at some of its steps.

    pictures: per camera (F, H, W, 3) uint8; states: (F, S); landmarks: per name (F, coordinates).
    """

    pictures: dict[str, np.ndarray]
    states: np.ndarray
    landmarks: dict[str, np.ndarray]


def watch(stage: Stage, seed: int, behaviour: str, every: int) -> Watched:
    """Look at an episode every so many steps, up to its success or its end."""
    act = stage.begin(seed, behaviour)
    observations, landmarks = [], []
    for step in range(stage.length):
        if step % every == 0:
            observations.append(stage.env.observe())
            landmarks.append(stage.env.landmarks())
        _, terminated, truncated, info = stage.env.advance(act(step))
        if terminated or truncated or info["is_success"]:
            break
    return Watched(
        pictures=pictures_of(observations),
        states=states_of(observations),
        landmarks={name: np.stack([seen[name] for seen in landmarks]) for name in landmarks[0]},
    )


def reach(
    stage: Stage, seed: int, behaviour: str, steps: int, looks: Iterable[int]
) -> list[Observation] | None:
    """Act for `steps` steps; returns what was seen at the steps `looks`, in their order.

    None if the episode ended, or the task was solved, on the way: then chunks hardly differ any more.
    """
    act, wanted = stage.begin(seed, behaviour), list(looks)
    seen: dict[int, Observation] = {}
    for step in range(steps + 1):
        if step in wanted:
            seen[step] = stage.env.observe()
        if step < steps:
            _, terminated, truncated, info = stage.env.advance(act(step))
            if terminated or truncated or info["is_success"]:
                return None
    return [seen[step] for step in wanted]
