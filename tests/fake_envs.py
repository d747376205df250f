"""A point that moves on a plane: an environment whose every answer is known by hand, without a simulator."""

import sys
from dataclasses import dataclass
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from lerobot.envs.configs import EnvConfig

from embodied.lerobot_plugin import SimulatedEnvConfig, Simulator
from envs.simulated import SimulatedEnv, Snapshot, check_owner

SIZE = 32

# Worker processes cannot import the tests: send them the classes themselves.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class PointEnv(SimulatedEnv):
    """Starts at (0, seed / 100); an action moves by a tenth of itself; x >= 1 is success; x < -1 is refused.

    The picture's brightness follows x. `length` steps, or the seed's last two digits if None, end an episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 40}
    render_mode = "rgb_array"
    robot_type = "point"
    state_names = ("x", "y")
    action_names = ("dx", "dy")
    fps = 40
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(
        self,
        task: str = "east",
        length: int | None = None,
        cameras: tuple[str, ...] = ("corner",),
        terminate_on_success: bool = True,
    ) -> None:
        self.task = task
        self.task_description = f"go {task}"
        self.length = length
        self.cameras = cameras
        self.terminate_on_success = terminate_on_success
        self.renders = 0
        picture = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.observation_space = gym.spaces.Dict(
            {
                "pixels": gym.spaces.Dict(dict.fromkeys(cameras, picture)),
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        info = self.restart(seed=seed)
        return self.observe(), info

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        super().reset(seed=seed)
        assert seed is not None
        self.position = np.array([0.0, seed / 100])
        self._max_episode_steps = self.length or seed % 100
        self.steps, self.is_negative = 0, False
        return {"is_success": False}

    def privileged_state(self) -> np.ndarray:
        return self.position

    def snapshot(self) -> Snapshot:
        generator = self.np_random.bit_generator.state
        return Snapshot(
            simulation=self, state=self.position, generator=generator, steps=self.steps, is_over=False
        )

    def restore(self, snapshot: Snapshot) -> None:
        check_owner(snapshot, self)
        self.position, self.steps, self.is_negative = snapshot.state, snapshot.steps, False

    def landmarks(self) -> dict[str, np.ndarray]:
        return {"point": self.position.copy()}

    def displace_object(self, generator: np.random.Generator) -> None:
        self.position = self.position + np.array([0.5, 0.0])

    def repaint_object(self, generator: np.random.Generator) -> None:
        self.is_negative = True

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self.position = self.position + 0.1 * action
        self.steps += 1
        if self.position[0] < -1:
            raise ValueError("the point left the plane")
        success = bool(self.position[0] >= 1 - 1e-6)
        return (
            float(self.position[0]),
            success and self.terminate_on_success,
            self.steps >= self._max_episode_steps,
            {"is_success": success},
        )

    def observe(self) -> dict[str, Any]:
        self.renders += 1
        brightness = np.clip(128 + 127 * self.position[0], 0, 255)
        picture = np.full((SIZE, SIZE, 3), 255 - brightness if self.is_negative else brightness, np.uint8)
        return {"pixels": dict.fromkeys(self.cameras, picture), "agent_pos": self.position.astype(np.float32)}


class PointExpert:
    """Goes straight to the right."""

    def __init__(self, task: str = "east") -> None:
        self.task = task

    def reset(self) -> None:
        pass

    def act(self, state: np.ndarray) -> np.ndarray:
        return np.float32([1, 0])

    def stage(self, state: np.ndarray) -> str:
        return f"go {self.task}" if state[0] < 0.5 else f"arrive in the {self.task}"


@EnvConfig.register_subclass("fake_point")
@dataclass
class PointEnvConfig(SimulatedEnvConfig):
    task: str | None = "east"
    fps: int = 40
    cameras: str = "corner"
    width: int = SIZE
    height: int = SIZE
    episode_length: int = 12

    @property
    def simulator(self) -> Simulator:
        return Simulator(make_env=PointEnv, make_expert=PointExpert)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple((self.task or "").split(","))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"length": self.episode_length}


class GoalPointEnv(PointEnv):
    """Shows where to go beside what is seen: x is 0.01 of the seed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.observation_space, gym.spaces.Dict)
        spaces = dict(self.observation_space.spaces)
        self.observation_space = gym.spaces.Dict({**spaces, "goal": spaces["pixels"]})

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        assert seed is not None
        self.goal = seed / 100
        return super().restart(seed=seed)

    def observe(self) -> dict[str, Any]:
        brightness = np.uint8(round(128 + 127 * self.goal))
        goal = dict.fromkeys(self.cameras, np.full((SIZE, SIZE, 3), brightness, np.uint8))
        return {**super().observe(), "goal": goal}

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        *_, truncated, _ = super().advance(action)
        success = abs(self.position[0] - self.goal) < 0.03
        return float(self.position[0]), bool(success), truncated, {"is_success": bool(success)}


@EnvConfig.register_subclass("fake_goal_point")
@dataclass
class GoalPointEnvConfig(PointEnvConfig):
    @property
    def simulator(self) -> Simulator:
        return Simulator(make_env=GoalPointEnv, make_expert=PointExpert)


class ThreeJointEnv(PointEnv):
    """Moves in three dimensions, seen from two cameras: the robot of `tests.checkpoints`."""

    state_names = action_names = ("waist", "elbow", "gripper")
    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.observation_space, gym.spaces.Dict)
        joints = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({**self.observation_space.spaces, "agent_pos": joints})

    def restart(self, *, seed: int | None = None) -> dict[str, Any]:
        info = super().restart(seed=seed)
        self.position = np.append(self.position, 0.0)
        return info


@EnvConfig.register_subclass("fake_three_joints")
@dataclass
class ThreeJointEnvConfig(PointEnvConfig):
    cameras: str = "corner,gripper"

    @property
    def simulator(self) -> Simulator:
        return Simulator(make_env=ThreeJointEnv, make_expert=PointExpert)

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"length": self.episode_length, "cameras": tuple(self.cameras.split(","))}
