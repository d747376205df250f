"""What every simulated task offers, whatever the robot: recording, training and evaluation know no more.

A action size, S size of the proprioceptive state.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np

from envs.chunk import ChunkableEnv

SMALLEST = 8
"""Pixels of a side: there is nothing to see on less."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every task can be told.

    task: its name; instruction: in plain English; cameras: names of its views; width, height: pixels;
    max_episode_steps: when an episode is truncated; terminate_on_success: whether the first success ends it;
    render_mode: `rgb_array`. ValueError, one line, for a value that cannot be used.
    """

    task: str
    instruction: str
    cameras: tuple[str, ...]
    width: int
    height: int
    max_episode_steps: int
    terminate_on_success: bool
    render_mode: str

    def __post_init__(self) -> None:
        if self.max_episode_steps < 1:
            raise ValueError(f"max_episode_steps={self.max_episode_steps}: expected at least 1")
        if min(self.width, self.height) < SMALLEST:
            size = f"{self.width} x {self.height}"
            raise ValueError(f"picture of {size} pixels: expected at least {SMALLEST} x {SMALLEST}")
        if self.render_mode != "rgb_array":
            raise ValueError(f"render_mode={self.render_mode!r}: expected 'rgb_array'")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The whole state of an episode, as the environment that took it knows it.

    simulation: of which it was taken; state: of that simulation; generator: state of the environment's
    random numbers; steps, is_over: how far the episode is.
    """

    simulation: Any
    state: Any
    generator: Mapping[str, Any]
    steps: int
    is_over: bool


class SimulatedEnv(ChunkableEnv):
    """One task of one robot, seen by cameras.

    Its observation holds "pixels", per camera (H, W, 3) uint8, and "agent_pos", (S,) float32. Every info
    holds `is_success`, of that very step. The simulation and its renderer are made on first use, so that a
    new environment can be sent to another process. A seed replays bit for bit.

    robot_type, state_names, action_names: as a data set describes the robot; fps: control steps per second;
    gripper_actions: which entries of an action open and close grippers; actions_are_targets: whether an
    action says where to be, in the entries and units of "agent_pos", instead of how to move; task: name;
    task_description: instruction in plain English; cameras: names, in the order of the pictures.
    """

    robot_type: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]
    action_names: ClassVar[tuple[str, ...]]
    fps: ClassVar[int]
    gripper_actions: ClassVar[tuple[int, ...]] = ()
    actions_are_targets: ClassVar[bool] = False

    task: str
    task_description: str
    cameras: tuple[str, ...]

    def __init__(self, settings: Settings, agent_pos: gym.spaces.Box) -> None:
        """agent_pos: the space of the proprioceptive state (S,)."""
        self.task, self.task_description = settings.task, settings.instruction
        self.cameras = tuple(settings.cameras)
        self.width, self.height = settings.width, settings.height
        self.terminate_on_success = settings.terminate_on_success
        self.render_mode = settings.render_mode
        self._max_episode_steps = self.max_episode_steps = settings.max_episode_steps
        self._steps, self._is_over = 0, True
        picture = gym.spaces.Box(0, 255, (self.height, self.width, 3), np.uint8)
        pixels = gym.spaces.Dict({camera: picture for camera in self.cameras})
        self.observation_space = gym.spaces.Dict({"pixels": pixels, "agent_pos": agent_pos})

    def _count_step(self, is_success: bool, *, is_broken: bool = False) -> tuple[bool, bool]:
        """Count a step that has been simulated; is_broken: it cannot go on. Returns terminated, truncated."""
        self._steps += 1
        terminated = (is_success and self.terminate_on_success) or is_broken
        truncated = not terminated and self._steps >= self._max_episode_steps
        self._is_over = terminated or truncated
        return terminated, truncated

    @abc.abstractmethod
    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        """Start an episode without rendering; returns info."""

    @abc.abstractmethod
    def privileged_state(self) -> np.ndarray:
        """Return the present state of robot and objects as the task's expert reads it, one-dimensional."""

    @abc.abstractmethod
    def snapshot(self) -> Snapshot:
        """Return all that the rest of the episode depends on. RuntimeError before the first reset."""

    @abc.abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this very environment, from whatever has happened since.

        The same actions then give the same states, rewards and pictures, bit for bit. A snapshot can be
        restored any number of times. Raises ValueError for a snapshot of another environment.
        """

    @abc.abstractmethod
    def landmarks(self) -> dict[str, np.ndarray]:
        """Return where grippers, objects and goals are now: by name, coordinates in the simulator's unit."""

    @abc.abstractmethod
    def displace_object(self, generator: np.random.Generator) -> None:
        """Move the main object at once, as nothing in the scene could have; `restore` undoes it."""

    @abc.abstractmethod
    def repaint_object(self, generator: np.random.Generator) -> None:
        """Give the main object another colour, as nothing in the scene could have; `restore` undoes it."""


def check_owner(snapshot: Snapshot, simulation: object) -> None:
    """Raise ValueError unless `snapshot` was taken of `simulation`."""
    if snapshot.simulation is not simulation:
        raise ValueError("snapshot of another environment: expected one of this environment")


class Expert(Protocol):
    """A scripted or planning policy that sees the simulator's state. Called once per control step."""

    def reset(self) -> None:
        """Begin an episode."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (A,) float32 within the action space, for a privileged state."""
        ...

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English."""
        ...
