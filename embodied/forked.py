"""A command of ours, or a function, in a process of its own that is ready at once, to be killed in a trial.

It is forked from a process that has done nothing but imports, which take most of a short command's time, so
that a kill at a random moment meets the work and not the start.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from embodied.cli import main


def start_command(args: Sequence[str], log: Path, preload: Sequence[str]) -> BaseProcess:
    """`embodied ARGS`, in a session of its own, in which whatever it starts can be found.

    log: what it says is appended to it; preload: modules to import before the first fork of this program.
    """
    return start_function(main, (list(args),), log, preload)


def start_function(
    function: Callable[..., int | None], arguments: Sequence[Any], log: Path, preload: Sequence[str]
) -> BaseProcess:
    """The same for a function of a module, whose result is the exit code."""
    multiprocessing.set_forkserver_preload([__name__, *preload])
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run, args=(function, tuple(arguments), log))
    process.start()
    return process


def _run(function: Callable[..., int | None], arguments: Sequence[Any], log: Path) -> None:
    os.setsid()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(function(*arguments))


def _end_with_parent() -> None:
    """SIGTERM for this process when the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is no fork"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
