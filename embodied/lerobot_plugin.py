"""What LeRobot gets from us: importing this module registers our policies, environments and robots."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import _LazyAsyncVectorEnv, freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

import embodied.robots.devices  # noqa: F401  (registers the robots)
import policies.latent_mpc
import policies.latent_vla  # noqa: F401  (the imports register the policies)
from embodied.errors import UserError
from embodied.rendering_backend import use_renderer
from envs.metaworld_tasks import parse_tasks
from envs.simulated import Expert, SimulatedEnv


@dataclass(frozen=True, kw_only=True)
class Simulator:
    """The environment of one robot, made from a task and `gym_kwargs`, and the expert of a task."""

    make_env: Callable[..., SimulatedEnv]
    make_expert: Callable[[str], Expert]


@dataclass
class SimulatedEnvConfig(EnvConfig, abc.ABC):
    """An environment of ours: named tasks, each seen by cameras, built by picklable functions.

    task, cameras: comma lists; width, height: pixels; episode_length: control steps before an episode is cut
    off; instruction: text given instead of each task's own; fps: control rate of the simulation, fixed.
    """

    cameras: str = ""
    width: int = 96
    height: int = 96
    episode_length: int | None = 200
    instruction: str | None = None
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("width", "height", "episode_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--env.{name}={value}: expected at least 1")
        # What cannot be used fails here: an environment checks its arguments, and simulates nothing yet.
        env = self.env_fn(self.tasks[0])()
        if self.fps != env.fps:
            raise UserError(f"--env.fps={self.fps}: expected {env.fps}, the rate of the simulation")
        self.features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(len(env.action_names),)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(len(env.state_names),)),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera in self.camera_names:
            shape = (self.height, self.width, 3)
            self.features[f"pixels/{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)
            self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    @abc.abstractmethod
    def simulator(self) -> Simulator:
        """The simulation, imported when it is asked for: MuJoCo binds its OpenGL backend on import."""

    @property
    @abc.abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that `task` selects."""

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the order of their pictures."""
        return _split(self.cameras)

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of the environment beside the task."""
        return {
            "cameras": self.camera_names,
            "width": self.width,
            "height": self.height,
            "max_episode_steps": self.episode_length,
            "instruction": self.instruction,
        }

    def env_fn(self, task: str, **changes: Any) -> Callable[[], SimulatedEnv]:
        """Return a picklable function that builds one environment of `task`.

        changes: arguments that differ from `gym_kwargs`, or that users do not set.
        """
        return partial(self.simulator.make_env, task, **(self.gym_kwargs | changes))

    def length(self, task: str) -> int:
        """Return after how many control steps an episode of `task` is cut off."""
        return self.episode_length or self.env_fn(task)().max_episode_steps

    def expert_fn(self, task: str) -> Callable[[], Expert]:
        """Return a picklable function that makes the expert of `task`."""
        return partial(self.simulator.make_expert, task)

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """Build what LeRobot's scripts step through: {task: {0: vector environment of n_envs copies}}.

        A task's processes start at its first reset, so that fifty tasks never hold 50 times n_envs of them.
        """
        if not use_async_envs or n_envs == 1:
            return {
                task: {0: gym.vector.SyncVectorEnv([freeze_after_episode_end(self.env_fn(task))] * n_envs)}
                for task in self.tasks
            }
        probe = self.env_fn(self.tasks[0])()
        spaces = (probe.observation_space, probe.action_space, probe.metadata)
        probe.close()
        return {task: {0: _LazyAsyncVectorEnv([self.env_fn(task)] * n_envs, *spaces)} for task in self.tasks}


@EnvConfig.register_subclass("embodied_metaworld")
@dataclass
class EmbodiedMetaworldEnv(SimulatedEnvConfig):
    """Meta-World v3 seen by cameras.

    task: comma list of tasks or task sets (`mt10`, `mt50`); cameras: comma list; width, height: pixels;
    episode_length: control steps; instruction: text given instead of each task's own; goal_color: `r,g,b`
    in [0, 1] painted on every goal; region: `all`, or the `left` or `right` half of where goals (in tasks
    without one, objects) are placed; pushed: the hand is carried away once in every episode; fps: control
    rate of the simulation, fixed.
    """

    task: str | None = "reach"
    fps: int = 80
    cameras: str = "corner,gripper"
    goal_color: str | None = None
    region: str = "all"
    pushed: bool = False

    @property
    def simulator(self) -> Simulator:
        """Meta-World with its scripted experts."""
        use_renderer()
        from envs.metaworld import MetaworldEnv
        from envs.metaworld_experts import make_expert

        return Simulator(make_env=MetaworldEnv, make_expert=make_expert)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names without the "-v3" ending."""
        return parse_tasks(self.task or "")

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `MetaworldEnv` beside the task."""
        return {
            **super().gym_kwargs,
            "goal_color": _parse_color(self.goal_color),
            "region": self.region,
            "pushed": self.pushed,
        }


@EnvConfig.register_subclass("embodied_aloha")
@dataclass
class EmbodiedAlohaEnv(SimulatedEnvConfig):
    """Two ALOHA arms on a table, seen by cameras.

    task: comma list of `transfer-cube` and `insertion`; cameras: comma list; width, height: pixels;
    episode_length: control steps; instruction: text given instead of each task's own; fps: control rate of
    the simulation, fixed.
    """

    task: str | None = "transfer-cube"
    fps: int = 50
    cameras: str = "top"
    episode_length: int = 400

    @property
    def simulator(self) -> Simulator:
        """ALOHA with its scripted experts."""
        use_renderer()
        from envs.aloha import AlohaEnv
        from envs.aloha_experts import make_expert

        return Simulator(make_env=AlohaEnv, make_expert=make_expert)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        use_renderer()
        from envs.aloha import TASKS

        return _select(self.task, tuple(TASKS))


@EnvConfig.register_subclass("embodied_pusht")
@dataclass
class EmbodiedPushtEnv(SimulatedEnvConfig):
    """A T-shaped block on a table, seen from above; drawn without OpenGL.

    task: `push-t`; cameras: `top`; width, height: pixels; episode_length: control steps; instruction: text
    given instead of the task's own; fps: control rate of the simulation, fixed.
    """

    task: str | None = "push-t"
    fps: int = 10
    cameras: str = "top"
    episode_length: int = 300

    @property
    def simulator(self) -> Simulator:
        """PushT with its expert."""
        from envs.pusht import PushTEnv
        from envs.pusht_expert import make_expert

        return Simulator(make_env=PushTEnv, make_expert=make_expert)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        from envs.pusht import TASKS

        return _select(self.task, tuple(TASKS))


@EnvConfig.register_subclass("embodied_so101")
@dataclass
class EmbodiedSO101Env(SimulatedEnvConfig):
    """An SO-101-sized arm at a table, seen by cameras: the arm that the robot `sim_so101` moves.

    task: comma list of tasks or of task sets (`abilities`, or one of them such as `memory`); cameras: comma
    list of `front`, `side`, `top` and `wrist`; width, height: pixels; episode_length: control steps, each
    task's own number if not given; instruction: text given instead of the task's own; fps: control rate of
    the simulation, fixed.
    """

    task: str | None = "reach-cube"
    fps: int = 30
    cameras: str = "front,wrist"
    episode_length: int | None = None

    @property
    def simulator(self) -> Simulator:
        """The arm with its scripted expert."""
        use_renderer()
        from envs.so101 import SO101Env
        from envs.so101_expert import make_expert

        return Simulator(make_env=SO101Env, make_expert=make_expert)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        use_renderer()
        from envs.tasks import TASK_SETS, TASKS

        names = [name for part in _split(self.task or "") for name in TASK_SETS.get(part, (part,))]
        return _select(",".join(names), (*TASKS, *TASK_SETS))


def simulator_type(task: str) -> str:
    """Return the `--env.type` that has the tasks which `--env.task` names; Meta-World's if none has."""
    try:
        parse_tasks(task)
    except ValueError:
        for choice in (EmbodiedSO101Env, EmbodiedAlohaEnv, EmbodiedPushtEnv):
            if _has(choice, task):
                return choice.get_choice_name(choice)
    return "embodied_metaworld"


def _has(choice: type[SimulatedEnvConfig], task: str) -> bool:
    try:
        return bool(choice(task=task))
    except ValueError:
        return False


def require_simulated(env: EnvConfig) -> SimulatedEnvConfig:
    """Return `env` if it is one of ours; raise UserError, naming those, if not."""
    if not isinstance(env, SimulatedEnvConfig):
        choices = EnvConfig.get_known_choices().items()
        ours = [name for name, choice in choices if issubclass(choice, SimulatedEnvConfig)]
        raise UserError(f"--env.type={env.type}: expected an environment of this package: {', '.join(ours)}")
    return env


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _select(text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks of a comma list.

    Raises:
        UserError: none, one that is not `known`, or one named twice.
    """
    names = _split(text or "")
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        wrong = unknown[0] if unknown else text
        raise UserError(f"--env.task={wrong}: expected some of {', '.join(known)}, each once")
    return names


def _parse_color(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--env.goal_color={text}: expected three numbers in [0, 1], such as 1,0,0") from None
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise UserError(f"--env.goal_color={text}: expected three numbers in [0, 1], such as 1,0,0")
    return red, green, blue
