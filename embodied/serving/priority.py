"""The thread that ticks runs as soon as it wakes, also where something else keeps every core busy.

Linux lets the busy go on for a few milliseconds before a thread that wakes gets its turn. A thread that asks
for shorter slices of time goes first (EEVDF, Linux 6.12 and later); that needs no privilege. Real-time
priority does better, and does.
"""

import ctypes
import os
import platform
import struct
import sys

from embodied.errors import UserError

SLICE_NS = 100_000
"""The shortest slice that Linux grants."""

SYSCALLS = {"x86_64": 314, "aarch64": 274}
"""Number of `sched_setattr`, which has no wrapper in Python."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""size, policy, flags, nice, priority, runtime, deadline, period, and two limits of utilisation."""


def hurry(*, realtime: bool = False) -> str:
    """Put the calling thread first; returns how: `realtime`, `short slices`, or `usual` where neither is.

    realtime: insist on the first. UserError if the system does not allow it.
    """
    if realtime:
        _become_realtime()
        return "realtime"
    number = SYSCALLS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return "usual"
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, SLICE_NS, 0, 0, 0, 0)
    failed = ctypes.CDLL(None).syscall(number, 0, ctypes.create_string_buffer(attributes), 0)
    return "usual" if failed else "short slices"


def _become_realtime() -> None:
    """The lowest real-time priority, for this thread and no child of it."""
    if sys.platform != "linux":
        raise UserError("--realtime=true: expected Linux")
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(0, policy, os.sched_param(1))
    except PermissionError as error:
        expected = "expected a user whose `ulimit -r` is 1 or more, or --realtime=false"
        raise UserError(f"--realtime=true: this user may not: {expected}") from error
