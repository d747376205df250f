"""One process per output folder, and a process that was killed is no process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.training.lock import OutputLock

HOLDER = """
import sys, time
from pathlib import Path
from embodied.training.lock import OutputLock
OutputLock(Path(sys.argv[1])).acquire()
print("locked", flush=True)
time.sleep(60)
"""


def test_the_second_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    """The message names the folder and the process."""
    with OutputLock(tmp_path) as first:
        first.acquire()
        with pytest.raises(UserError, match=rf"--output_dir={tmp_path}: process {os.getpid()} is training"):
            OutputLock(tmp_path).acquire()
    with OutputLock(tmp_path) as second:
        second.acquire()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """It holds the lock while it lives; SIGKILL leaves it no time to give it back."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=f"process {child.pid} is training"):
            OutputLock(tmp_path).acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
    with OutputLock(tmp_path) as lock:
        lock.acquire()
