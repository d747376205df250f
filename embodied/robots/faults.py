"""What can go wrong with a simulated robot on purpose."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Faults of a simulated robot; none by default. Durations in seconds.

    observation_delay: how old what is observed is; command_delay: how late a command reaches the motors;
    frame_loss: probability that a camera's picture is lost at a tick, and the last one seen again;
    stuck_joint: name of a joint that does not move from where it is; drop_after: the connection is cut this
    long after a client has connected; drop_for: and cannot be made again for this long; seed: of chance.
    """

    observation_delay: float = 0.0
    command_delay: float = 0.0
    frame_loss: float = 0.0
    stuck_joint: str | None = None
    drop_after: float | None = None
    drop_for: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError naming the first value that cannot be used."""
        for name in ("observation_delay", "command_delay", "drop_after", "drop_for"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 3600:
                raise ValueError(f"--robot.faults.{name}={value}: expected 0 to 3600 seconds")
        if not 0 <= self.frame_loss <= 1:
            raise ValueError(f"--robot.faults.frame_loss={self.frame_loss}: expected 0 to 1")

    def check_joint(self, names: tuple[str, ...]) -> None:
        """Raise ValueError unless the stuck joint, if any, is one of `names`."""
        if self.stuck_joint is not None and self.stuck_joint not in names:
            expected = f"expected one of {', '.join(names)}"
            raise ValueError(f"--robot.faults.stuck_joint={self.stuck_joint}: {expected}")
