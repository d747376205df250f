"""What can be made to fail in mid-episode, how it comes back, and what has to hold then.

A new fault is two functions of the stage and a line of FAULTS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from embodied.chaos.stage import Stage
from embodied.errors import UserError
from embodied.robots.faults import Faults

HOLD, RESUME, ROBOT, FLAG = "hold", "resume", "robot", "flag"
"""Bars: the loop holds in time; it runs again in time; the robot itself holds in time; the episode is marked
as interrupted."""

SERVER_BARS = frozenset({HOLD, RESUME, FLAG})
FROZEN_SECONDS = 2.0
"""Longer than what is decided stays fresh, unless a policy decides very long chunks."""

DARK_SECONDS = 1.0
"""For how long a robot whose cable was pulled cannot be connected to."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """strike, mend: bring it about and undo it; seconds: how long it lasts at least, if None until the loop
    holds; bars: what has to be kept, beside that every command is filtered; exit_code: of `embodied run`;
    is_remote: whether client and server are joined by a network that can go dark.
    """

    what: str
    strike: Callable[[Stage], None]
    mend: Callable[[Stage], None] | None = None
    seconds: float | None = None
    bars: frozenset[str] = frozenset()
    exit_code: int = 0
    is_remote: bool = False


def _injected(faults: Faults) -> Callable[[Stage], None]:
    return lambda stage: stage.inject(faults)


def _stick(stage: Stage) -> None:
    stage.inject(Faults(stuck_joint=stage.joints[0]))


_heal = _injected(Faults())

FAULTS = {
    "server_killed": Fault(
        what="SIGKILL of the server, which is started anew",
        strike=lambda stage: stage.server.kill(),
        mend=lambda stage: stage.server.start(),
        bars=SERVER_BARS,
    ),
    "server_stopped": Fault(
        what="SIGSTOP of the server, then SIGCONT",
        strike=lambda stage: stage.server.freeze(),
        mend=lambda stage: stage.server.thaw(),
        bars=SERVER_BARS,
    ),
    "black_hole": Fault(
        what="a network that passes nothing on and says nothing, then passes new connections",
        strike=lambda stage: stage.relay.go_dark(),
        mend=lambda stage: stage.relay.light_up(),
        bars=SERVER_BARS,
        is_remote=True,
    ),
    "client_killed": Fault(
        what="SIGKILL of `embodied run`",
        strike=lambda stage: stage.client.kill(),
        seconds=1.0,
        bars=frozenset({ROBOT}),
        exit_code=-9,
    ),
    "client_stopped": Fault(
        what="SIGSTOP of `embodied run`, then SIGCONT",
        strike=lambda stage: stage.client.freeze(),
        mend=lambda stage: stage.client.thaw(),
        seconds=FROZEN_SECONDS,
        bars=frozenset({ROBOT, RESUME, FLAG}),
    ),
    "cable_pulled": Fault(
        what="the robot's connection cut; `embodied run` ends with a line that says so",
        strike=_injected(Faults(drop_after=0.0, drop_for=DARK_SECONDS)),
        mend=_heal,
        seconds=DARK_SECONDS,
        bars=frozenset({ROBOT}),
        exit_code=2,
    ),
    "latency": Fault(
        what="observations 0.2 s and commands 0.05 s late, for a while",
        strike=_injected(Faults(observation_delay=0.2, command_delay=0.05)),
        mend=_heal,
        seconds=FROZEN_SECONDS,
    ),
    "frame_loss": Fault(
        what="nine of ten pictures lost, for a while",
        strike=_injected(Faults(frame_loss=0.9)),
        mend=_heal,
        seconds=FROZEN_SECONDS,
    ),
    "stuck_joint": Fault(
        what="the first joint stuck, for a while",
        strike=_stick,
        mend=_heal,
        seconds=FROZEN_SECONDS,
    ),
}
DEFAULT = ("server_killed", "server_stopped", "black_hole", "client_killed")
ALL = "all"


def chosen_faults(text: str) -> list[str]:
    """The names in a comma list, or all of them; UserError for one that there is not."""
    if text == ALL:
        return list(FAULTS)
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FAULTS:
            raise UserError(f"--faults={name}: expected some of {', '.join(FAULTS)}, or {ALL}")
    if not names:
        raise UserError(f"--faults={text}: expected some of {', '.join(FAULTS)}, or {ALL}")
    return names
