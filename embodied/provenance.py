"""Where a result comes from: the five facts that every JSON file under results/ begins with."""

import datetime
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


def run_origin(command: Sequence[str], *, seeds: Sequence[int]) -> dict[str, Any]:
    """`date` (UTC), `commit`, `machine`, `seeds` and `command` of a run that ends now."""
    return {
        "date": utc_date(),
        "commit": git_commit(),
        "machine": ", ".join([f"{os.cpu_count()} cores", cpu_model(), *gpu_models()]),
        "seeds": list(seeds),
        "command": shlex.join(command),
    }


def utc_date() -> str:
    """Today's date in UTC, such as `2026-01-31`."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


@cache
def cpu_model() -> str:
    """The processor's name, such as `Intel(R) Xeon(R) Processor`; its architecture where that is hidden."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def gpu_models() -> tuple[str, ...]:
    """Names of the NVIDIA devices; empty without their driver's tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    listing = subprocess.run(query, capture_output=True, text=True)
    return tuple(listing.stdout.splitlines()) if listing.returncode == 0 else ()


@cache
def git_commit() -> str | None:
    """Commit of the sources this package runs from, `+changes` appended if edited; None outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results"]
        changes = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
