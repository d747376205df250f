"""What the control loop did at every tick, as JSON lines: the counterpart of a simulated robot's motor log.

Both read the system's monotonic clock, and the number of a command in the motor log is that of the tick here.
Lines are written by a thread, so that the loop never waits for a disk; a kill loses the last few.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from embodied.robots.body import MotorLog
from embodied.serving.control import Patience
from embodied.serving.loop import Tick


class TickLog:
    """Appends to a file: `start` with the loop's rate and patience, then a `tick` each. To be closed.

    A tick's `state`, `reason`, `looked`, `left`, `sent` and `command` are those of `Tick`; `sent` and
    `command` to the last digit, so that speeds can be computed from them as exactly as the filter did.
    """

    def __init__(self, path: Path) -> None:
        """path: the file, whose folder is made."""
        self._log = MotorLog(path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="tick log")

    def start(self, now: float, fps: float, patience: Patience) -> None:
        """Write how the loop is set."""
        values = {"fps": fps, "overdue": patience.overdue, "stale": patience.stale}
        self._writer.submit(self._log.write, "start", now, **values)

    def add(self, tick: Tick) -> None:
        """Leave a tick to be written."""
        self._writer.submit(
            self._log.write,
            "tick",
            tick.time,
            sent=tick.sent,
            state=tick.state.value,
            reason=tick.reason,
            looked=tick.looked,
            left=tick.left,
            command=tick.command,
        )

    def close(self) -> None:
        """Write what is left."""
        self._writer.shutdown()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
