"""Configuration of `embodied chaos`."""

from dataclasses import dataclass, field
from pathlib import Path

from lerobot.robots import RobotConfig

from embodied.chaos.faults import DEFAULT, chosen_faults
from embodied.errors import UserError
from embodied.robots.devices.configs import SimRobotConfig
from embodied.serving.queue import MERGES
from embodied.serving.run_config import PolicyHere


@dataclass(frozen=True, kw_only=True)
class ChaosConfig:
    """`embodied chaos`: what the arm does when server, network, client or robot fail in mid-episode.

    Each repetition is an episode of `embodied run` with a simulated robot, a policy served on this machine
    and one fault, at a moment drawn from the seed. An interrupted run is completed by the same command;
    `embodied report` shows output_dir.

    null: no policy of yours, but one that waves the first joint. faults: comma list of server_killed,
    server_stopped, black_hole, client_killed, client_stopped, cable_pulled, latency, frame_loss and
    stuck_joint, or `all`; repetitions: of each. task: the instruction, that of the robot's scene if None.
    mode, chunking, overdue, stale, deadline, device: as for `embodied run` and `serve`. policy_overrides is
    filled by the command line.
    """

    robot: RobotConfig
    policy: PolicyHere = field(default_factory=PolicyHere)
    policy_overrides: list[str] = field(default_factory=list)
    null: bool = False
    faults: str = ",".join(DEFAULT)
    repetitions: int = 30
    output_dir: Path = Path("runs/chaos")
    task: str | None = None
    mode: str = ""
    chunking: str = "rtc"
    overdue: float | None = None
    stale: float | None = None
    deadline: float = 1.0
    device: str | None = None
    seed: int = 0
    json: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.robot, SimRobotConfig):
            raise UserError(f"--robot.type={self.robot.type}: expected sim_so101 or sim_aloha")
        if (self.policy.path is None) != self.null:
            given = "both are given" if self.null else "neither is given"
            raise UserError(f"--policy.path and --null: {given}: expected one of them")
        if self.chunking not in MERGES:
            raise UserError(f"--chunking={self.chunking}: expected one of {', '.join(MERGES)}")
        for name, least in (("repetitions", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name}={getattr(self, name)}: expected at least {least}")
        chosen_faults(self.faults)
