"""Configuration of `embodied run`."""

from dataclasses import dataclass, field
from pathlib import Path

from lerobot.robots import RobotConfig

from embodied.errors import UserError
from embodied.serving.queue import MERGES

SYNC = "sync"
CHUNKING = (*MERGES, SYNC)


@dataclass(frozen=True, kw_only=True)
class PolicyHere:
    """A policy on this computer, in a process of its own.

    path: a checkpoint, a run's output folder or an exported policy. Other `--policy.*` flags override fields
    of a checkpoint's own configuration.
    """

    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ServerThere:
    """A server started by `embodied serve`.

    url: such as `ws://127.0.0.1:8000`, elsewhere `wss://...`; token_file: holds what the server asks for;
    ca: certificate to trust for a server that signed its own.
    """

    url: str | None = None
    token_file: Path | None = None
    ca: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SafetyFlags:
    """Limits of every command. This is no certified safety function.

    profile: a name or a JSON file with the robot's limits, by the robot's type if None; off: comma list of
    limits not to keep, of position, velocity, acceleration, tracking and self_collision.
    """

    profile: str | None = None
    off: str | None = None

    @property
    def turned_off(self) -> tuple[str, ...]:
        """The names in `off`."""
        return tuple(name.strip() for name in (self.off or "").split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """`embodied run`: drive a robot by a policy on a server (--server.url) or here (--policy.path).

    mode: how to decide, the policy's choice if empty; candidates: chunks that mode `plan` chooses among, the
    policy's number if 0, a server may allow fewer; task: the instruction; chunking: `rtc`, where a new
    chunk continues the one before, `ensemble`, where all predictions for a step are averaged, or `sync`,
    where the robot waits for each; episodes, seconds: how many and how long; overdue: seconds after the last
    decision at which it is missed, the time of `n_action_steps` and a half if None; stale: age of a look, in
    seconds, at which what was decided on it is dropped, the time of a chunk and `overdue` if None; deadline:
    seconds to wait for a decision; patience: seconds to wait for the policy at the start; fps: control rate,
    the profile's if None; record: folder of a LeRobotDataset to add the episodes to; tick_log: file of JSON
    lines to add what was done at every tick to, on the clock of a simulated robot's motor log; seed: of a
    simulated robot's first scene; realtime: real-time priority for the thread that ticks, where the system
    allows it. policy_overrides is filled by the command line.
    """

    robot: RobotConfig
    task: str
    policy: PolicyHere = field(default_factory=PolicyHere)
    server: ServerThere = field(default_factory=ServerThere)
    safety: SafetyFlags = field(default_factory=SafetyFlags)
    policy_overrides: list[str] = field(default_factory=list)
    mode: str = ""
    candidates: int = 0
    chunking: str = "rtc"
    episodes: int = 1
    seconds: float = 30.0
    overdue: float | None = None
    stale: float | None = None
    deadline: float = 1.0
    patience: float = 30.0
    fps: int | None = None
    record: Path | None = None
    tick_log: Path | None = None
    seed: int = 0
    realtime: bool = False
    device: str | None = None
    json: Path | None = None

    def __post_init__(self) -> None:
        if (self.policy.path is None) == (self.server.url is None):
            given = "neither is given" if self.policy.path is None else "both are given"
            raise UserError(f"--policy.path and --server.url: {given}: expected one of them")
        if self.chunking not in CHUNKING:
            raise UserError(f"--chunking={self.chunking}: expected one of {', '.join(CHUNKING)}")
        for name in ("episodes", "seconds", "deadline", "patience", "fps", "overdue", "stale"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"--{name}={value}: expected more than 0")
