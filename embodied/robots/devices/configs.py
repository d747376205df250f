"""Flags of the simulated robots, `--robot.type=sim_so101` and `sim_aloha`, and of their leader."""

from dataclasses import dataclass, field
from pathlib import Path

from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig

from embodied.errors import UserError
from embodied.robots.body import BODIES, BodyConfig, joint_names, make_env
from embodied.robots.cable import cable_folder, socket_path
from embodied.robots.faults import Faults
from embodied.robots.motors import WATCHDOG_SECONDS, Motors
from embodied.robots.process import ProcessConfig


@dataclass(kw_only=True)
class SimRobotConfig(RobotConfig):
    """A simulated robot that ticks in its own process.

    port: its name on this machine, by default its type; task: of its scene, by default the first; cameras:
    comma list of views; width, height: pixels; seed: of the scene; watchdog: seconds without a command until
    it holds; faults: what goes wrong, as `--robot.faults.frame_loss=0.1`; motor_log: file of what the motors
    got, by default in the folder of the socket; idle_seconds: without a client, until the process ends.
    """

    port: str = ""
    task: str | None = None
    cameras: str = ""
    width: int = 96
    height: int = 96
    seed: int = 0
    watchdog: float = WATCHDOG_SECONDS
    faults: Faults = field(default_factory=Faults)
    motor_log: Path | None = None
    idle_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Check what can be checked without simulating. LeRobot's own check is for cameras with drivers."""
        try:
            env = make_env(self.body)
            self.faults.check_joint(joint_names(env))
            Motors(watchdog_seconds=self.watchdog)
            socket_path(self.process.port)
        except ValueError as error:
            raise UserError(str(error)) from None
        if self.seed < 0:
            raise UserError(f"--robot.seed={self.seed}: expected 0 or more")

    @property
    def body(self) -> BodyConfig:
        """The robot and its scene."""
        return BodyConfig(
            robot=self.type,
            task=self.task,
            cameras=tuple(name.strip() for name in self.cameras.split(",") if name.strip()),
            width=self.width,
            height=self.height,
            seed=self.seed,
            watchdog=self.watchdog,
            faults=self.faults,
        )

    @property
    def process(self) -> ProcessConfig:
        """The robot's process."""
        port = self.port or self.type
        log = (self.motor_log or cable_folder() / f"{port}.motors.jsonl").absolute()
        return ProcessConfig(body=self.body, port=port, log=log, idle_seconds=self.idle_seconds)


@RobotConfig.register_subclass("sim_so101")
@dataclass(kw_only=True)
class SimSO101Config(SimRobotConfig):
    """An SO-101-sized arm at a table; degrees and per cent, names of LeRobot's `so101_follower`."""

    cameras: str = "front,wrist"


@RobotConfig.register_subclass("sim_aloha")
@dataclass(kw_only=True)
class SimAlohaConfig(SimRobotConfig):
    """ALOHA's two arms at a table; radians, grippers from 0 closed to 1 open; 50 ticks a second."""

    cameras: str = "top"


@TeleoperatorConfig.register_subclass("sim_leader")
@dataclass(kw_only=True)
class SimLeaderConfig(TeleoperatorConfig):
    """The scripted expert of a simulated robot's task, as who teleoperates it.

    robot: the robot's type; port: its name on this machine, by default its type.
    """

    robot: str = "sim_so101"
    port: str = ""

    def __post_init__(self) -> None:
        """Raise UserError unless there is such a robot."""
        if self.robot not in BODIES:
            raise UserError(f"--teleop.robot={self.robot}: expected one of {', '.join(BODIES)}")
        self.port = self.port or self.robot
