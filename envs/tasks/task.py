"""What a task on the table is. One file of this folder is one task, or one family of them by level and split.

A task puts things into a scene, arranges them for each episode and writes what is asked for as text and as
numbers; judges; names its rewards; and says what its expert does next, from the state alone, so that the
expert recovers from whatever has happened. `blind` takes away the one piece of information that the task is
about: an expert that acts on that shows whether the information is needed.

n things; G numbers of a goal, counters included.
"""

import abc
import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from envs.so101_arm import Kinematics, joint_numbers
from envs.tabletop import World
from envs.things import Thing


class Verdict(enum.Enum):
    """How an episode stands after a step; a failure cannot be made good any more."""

    RUNNING = enum.auto()
    SUCCESS = enum.auto()
    FAILURE = enum.auto()


@dataclass(kw_only=True)
class Goal:
    """What one episode asks for.

    instruction: in plain English; numbers: (G,) float64, what the verdict and the expert need beside the
    places of things: who is meant, what has been done so far. Part of the privileged state.
    """

    instruction: str
    numbers: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The privileged state, taken apart.

    joints: (6,) degrees and per cent; pinch: (3,) where the middle of what the gripper grips would be; poses:
    by name, (7,) place and unit quaternion; numbers: (G,) of the goal; rates: (6,) of the joints, radians per
    second; velocities: by name of the movable things, (6,) metres and radians per second.
    """

    joints: np.ndarray
    pinch: np.ndarray
    poses: Mapping[str, np.ndarray]
    numbers: np.ndarray
    rates: np.ndarray
    velocities: Mapping[str, np.ndarray]

    def place(self, name: str) -> np.ndarray:
        """Return where a thing's middle is, (3,) metres."""
        return self.poses[name][:3]

    def with_numbers(self, numbers: np.ndarray) -> "Sight":
        """Return the same with another goal."""
        return replace(self, numbers=numbers)

    def with_poses(self, poses: Mapping[str, np.ndarray]) -> "Sight":
        """Return the same with some things elsewhere."""
        return replace(self, poses={**self.poses, **poses})


@dataclass(frozen=True, kw_only=True)
class Move:
    """What the expert does now: it brings the point between the jaws to a place, the gripper pointing down.

    what: the sub-goal in plain English; place: (3,) metres; opening: of the gripper, per cent; facing: angle
    in radians of a side that the jaws shall face, up to quarter turns, or None where it does not matter.
    """

    what: str
    place: np.ndarray
    opening: float
    facing: float | None = None


class Task(abc.ABC):
    """One task.

    things: on the table; goal_size: G; steps: of an episode; has_goal_picture: whether `arrange_goal` can
    show what is asked for.
    """

    things: tuple[Thing, ...]
    goal_size: int
    steps: int
    has_goal_picture: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the things, in the order of the privileged state."""
        return tuple(thing.name for thing in self.things)

    def make_world(self) -> World:
        """Compile the scene."""
        return World(self._build, self.names)

    def _build(self, scene: mujoco.MjSpec) -> None:
        for thing in self.things:
            thing.add_to(scene)

    @abc.abstractmethod
    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Arrange the things of a world just reset, all from the generator, and say what is asked for."""

    @abc.abstractmethod
    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """Judge after a control step, the first being 1; count in `goal.numbers` and let events happen."""

    @abc.abstractmethod
    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """Return the reward's terms by name; their sum is the reward, at most 1 a step."""

    @abc.abstractmethod
    def next_move(self, sight: Sight) -> Move:
        """Return what the expert does in this state."""

    @abc.abstractmethod
    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """Return what an expert sees that lacks the information this task is about, and guesses it.

        generator: begins afresh at every call of an episode, so that a guess stays the same.
        """

    def arrange_goal(self, world: World, goal: Goal) -> None:
        """Arrange the things as they shall be in the end, from the goal alone."""
        raise NotImplementedError(f"{type(self).__name__} has no picture of its goal")

    def sight(self, state: np.ndarray, arm: Kinematics) -> Sight:
        """Take a privileged state apart."""
        ends = np.cumsum([6, *(7 for _ in self.names), self.goal_size, 6])
        joints, *poses, numbers, rates, velocities = np.split(state, ends)
        free = [thing.name for thing in self.things if not thing.is_fixed and not thing.rail]
        joints = joint_numbers(joints)
        return Sight(
            joints=joints,
            pinch=arm.pinch(joints)[0],
            poses=dict(zip(self.names, poses, strict=True)),
            numbers=numbers,
            rates=rates,
            velocities=dict(zip(free, velocities.reshape(len(free), 6), strict=True)),
        )
