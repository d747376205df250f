"""A simulated robot as one object: a scene that moves by ticks, motors with a watchdog, sensors, faults.

It knows no clock and no connection; the time, in seconds, is an argument. A action size, P size of the
privileged state.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied.rendering_backend import use_renderer
from embodied.robots.faults import Faults
from embodied.robots.motors import WATCHDOG_SECONDS, Motors
from embodied.robots.sensors import Reading, Sensors
from envs.simulated import Expert, SimulatedEnv

SUFFIX = ".pos"
"""How LeRobot's robots end the name of a joint's position."""

ENDLESS = 10**9
"""Steps of an episode: a robot's scene does not end."""


@dataclass(frozen=True, kw_only=True)
class BodyConfig:
    """A simulated robot and its scene.

    robot: a name of BODIES; task: of its environment, None for the first; cameras: names of views; width,
    height: of pictures in pixels; seed: of the scene; watchdog: seconds without a command until it holds.
    """

    robot: str
    task: str | None = None
    cameras: tuple[str, ...]
    width: int = 96
    height: int = 96
    seed: int = 0
    watchdog: float = WATCHDOG_SECONDS
    faults: Faults = field(default_factory=Faults)


def _so101(task: str | None, **arguments: Any) -> SimulatedEnv:
    use_renderer()
    from envs.so101 import SO101Env

    return SO101Env(task or "reach-cube", **arguments)


def _aloha(task: str | None, **arguments: Any) -> SimulatedEnv:
    use_renderer()
    from envs.aloha import TASKS, AlohaEnv

    return AlohaEnv(task or TASKS[0], **arguments)


def _so101_expert(task: str) -> Expert:
    use_renderer()
    from envs.so101_expert import make_expert

    return make_expert(task)


def _aloha_expert(task: str) -> Expert:
    use_renderer()
    from envs.aloha_experts import make_expert

    return make_expert(task)


@dataclass(frozen=True, kw_only=True)
class BodyKind:
    """How a robot's scene is made, of a task (None for the first) and the environment's arguments."""

    make_env: Callable[..., SimulatedEnv]
    make_expert: Callable[[str], Expert]


BODIES = {
    "sim_so101": BodyKind(make_env=_so101, make_expert=_so101_expert),
    "sim_aloha": BodyKind(make_env=_aloha, make_expert=_aloha_expert),
}


def make_env(config: BodyConfig) -> SimulatedEnv:
    """Make a robot's scene, which simulates nothing yet.

    Raises:
        ValueError: a robot, task, camera or size that there is not.
    """
    if config.robot not in BODIES:
        raise ValueError(f"robot {config.robot!r}: expected one of {', '.join(BODIES)}")
    return BODIES[config.robot].make_env(
        config.task,
        cameras=config.cameras,
        width=config.width,
        height=config.height,
        max_episode_steps=ENDLESS,
        terminate_on_success=False,
    )


def joint_names(env: SimulatedEnv) -> tuple[str, ...]:
    """Names of state and action as a LeRobot robot gives them."""
    return tuple(name.removesuffix(SUFFIX) + SUFFIX for name in env.action_names)


class MotorLog:
    """Every command that came and every target that the motors got, one JSON object a line, written at once.

    `event` is `start`, `command` (as it came, before any delay), `tick` (what the motors followed, and where
    the joints were) or `reset`; `time` is of the system's monotonic clock. What is not finite is null.
    """

    def __init__(self, path: Path) -> None:
        """Append to `path`, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)

    def write(self, event: str, time: float, **values: Any) -> None:
        """Write one line; arrays become lists."""
        record = {"event": event, "time": round(time, 6)}
        for name, value in values.items():
            record[name] = _numbers(value) if isinstance(value, np.ndarray) else value
        self._file.write(json.dumps(record, allow_nan=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def read_motor_log(path: Path) -> list[dict[str, Any]]:
    """Read what a MotorLog wrote; a last line that was cut off is left out."""
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


class Body:
    """One robot in its scene. Call `tick` at the rate `fps`."""

    def __init__(self, config: BodyConfig, log: MotorLog, now: float) -> None:
        """Make the scene and put the robot into its start pose. The log is the body's from now on.

        Raises:
            ValueError: a value of `config` that cannot be used.
        """
        self.env = make_env(config)
        self.config = config
        self.names = joint_names(self.env)
        self.fps = self.env.fps
        self._log = log
        self._motors = Motors(watchdog_seconds=config.watchdog)
        self._sensors = Sensors()
        self._tick = 0
        self.inject(config.faults)
        log.write("start", now, robot=config.robot, names=list(self.names), fps=self.fps)
        self.reset(config.seed, now)

    def inject(self, faults: Faults) -> None:
        """Have these faults from now on, instead of those before.

        Raises:
            ValueError: there is no such joint.
        """
        faults.check_joint(self.names)
        self.faults = faults
        self._generator = np.random.default_rng(faults.seed)
        self._stuck_at: float | None = None

    def reset(self, seed: int, now: float) -> None:
        """Begin a new episode: another scene, the arm in its start pose, no command."""
        self.env.restart(seed=seed)
        self._motors.release()
        self._sensors = Sensors()
        self._stuck_at = None
        self._log.write("reset", now, seed=seed)
        self._observe(now, is_holding=True, is_success=False)

    def command(self, sequence: int, target: np.ndarray, now: float) -> None:
        """Take a command (A,) in the robot's units, finite or not."""
        self._log.write("command", now, sequence=sequence, target=target)
        self._motors.receive(sequence, target, now, delay=self.faults.command_delay)

    def release(self) -> None:
        """Hold from the next tick on: who commanded is gone."""
        self._motors.release()

    def tick(self, now: float) -> None:
        """Simulate one control step towards what the motors follow, and look."""
        position = self._position
        motor = self._motors.follow(position, now)
        self._tick += 1
        self._log.write(
            "tick",
            now,
            tick=self._tick,
            source=motor.source,
            sequence=motor.sequence,
            target=motor.target,
            position=position,
        )
        _, terminated, _, info = self.env.advance(self._with_stuck_joint(motor.target, position))
        if terminated:  # the simulation has diverged: a robot that is picked up and put back
            self.reset(self.config.seed, now)
            return
        self._observe(now, is_holding=motor.source != "command", is_success=bool(info["is_success"]))

    def latest(self, now: float) -> Reading:
        """Return what the robot reports now, delayed as the faults say."""
        return self._sensors.latest(now, delay=self.faults.observation_delay)

    def _observe(self, now: float, *, is_holding: bool, is_success: bool) -> None:
        observation = self.env.observe()
        self._position = np.asarray(observation["agent_pos"], np.float64)
        losses = self._generator.random(len(self.env.cameras)) < self.faults.frame_loss
        lost = frozenset(name for name, is_lost in zip(self.env.cameras, losses, strict=True) if is_lost)
        reading = Reading(
            tick=self._tick,
            time=now,
            state=self._position,
            pictures=observation["pixels"],
            is_holding=is_holding,
            is_success=is_success,
        )
        self._sensors.keep(reading, lost)

    def _with_stuck_joint(self, target: np.ndarray, position: np.ndarray) -> np.ndarray:
        if self.faults.stuck_joint is None:
            return target
        joint = self.names.index(self.faults.stuck_joint)
        if self._stuck_at is None:
            self._stuck_at = float(position[joint])
        changed = target.copy()
        changed[joint] = self._stuck_at
        return changed

    def close(self) -> None:
        """Free the scene and close the log."""
        self.env.close()
        self._log.close()
