"""What LeRobot gets from us: importing this module registers our policies and environments with it."""

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

import policies.latent_vla  # noqa: F401  (the import registers the policy)
from embodied.errors import UserError
from embodied.rendering_backend import use_renderer
from envs.metaworld_tasks import parse_tasks
from envs.simulated import Expert

EnvFn = Callable[[], gym.Env]


@dataclass
class SimulatedEnvConfig(EnvConfig, abc.ABC):
    """An environment of ours: named tasks, each built by a picklable function.

    episode_length: control steps before an episode is cut off.
    """

    episode_length: int = 200

    @property
    @abc.abstractmethod
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that `task` selects."""

    @abc.abstractmethod
    def env_fn(self, task: str) -> EnvFn:
        """Return a picklable function that builds one environment of `task`."""

    @abc.abstractmethod
    def expert_fn(self, task: str) -> Callable[[], Expert]:
        """Return a picklable function that makes the expert of `task`."""

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
    in [0, 1] painted on every goal; fps: control rate of the simulation, fixed.
    """

    task: str | None = "reach"
    cameras: str = "corner,gripper"
    width: int = 96
    height: int = 96
    instruction: str | None = None
    goal_color: str | None = None
    fps: int = 80
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("width", "height", "episode_length"):
            if getattr(self, name) < 1:
                raise UserError(f"--env.{name}={getattr(self, name)}: expected at least 1")
        # MuJoCo binds its backend on import, and a machine that cannot render must still find our policies.
        use_renderer()
        from envs.rendering import check_views

        check_views(self.camera_names)
        # A task or a colour that cannot be used fails here, before anything is built.
        _ = self.tasks, self.gym_kwargs
        self.features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(4,)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(4,)),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera in self.camera_names:
            shape = (self.height, self.width, 3)
            self.features[f"pixels/{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)
            self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names without the "-v3" ending."""
        return parse_tasks(self.task or "")

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the order of their pictures."""
        return tuple(name.strip() for name in self.cameras.split(",") if name.strip())

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `MetaworldEnv` beside the task."""
        return {
            "cameras": self.camera_names,
            "width": self.width,
            "height": self.height,
            "max_episode_steps": self.episode_length,
            "instruction": self.instruction,
            "goal_color": _parse_color(self.goal_color),
        }

    def env_fn(self, task: str) -> EnvFn:
        """Return a picklable function that builds one `MetaworldEnv`."""
        from envs.metaworld import MetaworldEnv  # late, as above

        return partial(MetaworldEnv, task, **self.gym_kwargs)

    def expert_fn(self, task: str) -> Callable[[], Expert]:
        """Return a picklable function that makes the scripted expert of `task`."""
        from envs.metaworld_experts import make_expert  # late, as above

        return partial(make_expert, task)


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
