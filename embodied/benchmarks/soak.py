"""Whether a server and what belongs to it grow: memory, descriptors and threads over an hour of visitors.

A simulated arm is driven by `embodied run` over TLS while clients come, ask, leave, break off and send
hostile frames. N samples.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.robots import make_robot_from_config

from embodied.benchmarks.jitter import holding
from embodied.errors import UserError
from embodied.robots.devices import SimSO101Config
from embodied.serving.load import Credentials, neighbour, served
from embodied.serving.profiles import find_profile
from embodied.serving.run import robot_specification
from embodied.serving.runners import find_specification, find_target
from embodied.serving.specification import from_plain

WARM_UP = 1 / 6
"""Share of the time that does not count."""

MB_PER_HOUR = 1.0
MEASURES = ("mb", "mapped_mb", "descriptors", "threads")
"""Memory of its own; pages of files, libraries above all, which come in when code first runs; and so on."""

LINE = ("per_hour", "low", "high", "grown", "first", "last")
Sample = dict[str, float]


def soak(
    files: Credentials, *, policy: Path | None, seconds: float, every: float, port: str
) -> dict[str, Any]:
    """Measure for so long, or until interrupted.

    policy: a checkpoint or an export, one that holds still if None; every: seconds between samples; port: the
    simulated robot's name. Returns `processes` (per process what `growth` gives), `deaths` (how often one was
    replaced by another), `samples`, `interrupted` and `ok`.
    """
    robot = SimSO101Config(port=port)
    if policy is None:
        offers = robot_specification(make_robot_from_config(robot), find_profile(robot.type))
        target = holding(offers)
        specification = from_plain(target.arguments["specification"])
    else:
        target = find_target(policy, null=False, device=None, overrides=[])
        specification = find_specification(policy)
    with (
        served(target, files) as (url, server),
        _control_loop(url, files, port, seconds) as loop,
        neighbour("visitors", url, specification, files),
    ):
        pids = {"server": server, "inference": _child_of(server), "control loop": loop}
        samples, deaths, interrupted = _sampled(pids, seconds, every)
    growths = {name: growth([sample[name] for sample in samples]) for name in pids}
    is_flat = all(
        one["mb"]["per_hour"] < MB_PER_HOUR and max(one["descriptors"]["grown"], one["threads"]["grown"]) < 1
        for one in growths.values()
    )
    ok = is_flat and not deaths and not interrupted
    return {
        "ok": ok,
        "interrupted": interrupted,
        "deaths": deaths,
        "processes": growths,
        "samples": samples,
    }


def growth(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Straight lines through what was measured after the warm-up, by least squares.

    samples: N, of `seconds` and MEASURES. Per measure `per_hour` with the 95 % interval `low` to `high`,
    `grown` (by the line, over what counts), `first` and `last`. Zeros for fewer than three samples.
    """
    kept = [sample for sample in samples if sample["seconds"] >= WARM_UP * samples[-1]["seconds"]]
    if len(kept) < 3:
        return {name: dict.fromkeys(LINE, 0.0) for name in MEASURES}
    hours = np.array([sample["seconds"] for sample in kept]) / 3600
    return {name: _line(hours, np.array([sample[name] for sample in kept], np.float64)) for name in MEASURES}


def _line(hours: np.ndarray, values: np.ndarray) -> dict[str, float]:
    centred = hours - hours.mean()
    slope = float(centred @ values / (centred @ centred))
    residuals = values - values.mean() - slope * centred
    error = float(np.sqrt(residuals @ residuals / (len(values) - 2) / (centred @ centred)))
    return {
        "per_hour": slope,
        "low": slope - 1.96 * error,
        "high": slope + 1.96 * error,
        "grown": slope * float(hours[-1] - hours[0]),
        "first": float(values[0]),
        "last": float(values[-1]),
    }


# --- processes ------------------------------------------------------------------------------------


def measured(pid: int) -> Sample:
    """MEASURES of a process, memory in 10^6 bytes; UserError if it has ended."""
    process = Path("/proc", str(pid))
    status = (process / "status").read_text() if process.exists() else ""
    kilobytes = {name: int(size) for name, size in re.findall(r"^(Rss\w+):\s*(\d+) kB", status, re.MULTILINE)}
    if not kilobytes:  # a zombie has no memory
        raise UserError(f"process {pid}: has ended: expected all of them to last")
    return {
        "mb": (kilobytes["RssAnon"] + kilobytes["RssShmem"]) * 1.024e-3,
        "mapped_mb": kilobytes["RssFile"] * 1.024e-3,
        "descriptors": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
    }


def _sampled(
    pids: dict[str, int], seconds: float, every: float
) -> tuple[list[dict[str, Sample]], dict[str, int], bool]:
    """Samples of every process, how often each was replaced, and whether an interrupt came."""
    samples: list[dict[str, Sample]] = []
    deaths: dict[str, int] = {}
    begun = time.monotonic()
    try:
        while (now := time.monotonic() - begun) < seconds:
            if _child_of(pids["server"]) != pids["inference"]:
                pids["inference"] = _child_of(pids["server"])
                deaths["inference"] = deaths.get("inference", 0) + 1
            samples.append({name: {"seconds": now, **measured(pid)} for name, pid in pids.items()})
            _print_sample(samples[-1])
            time.sleep(max(0.0, begun + len(samples) * every - time.monotonic()))
    except KeyboardInterrupt:
        return samples, deaths, True
    return samples, deaths, False


def _print_sample(sample: Mapping[str, Sample]) -> None:
    minutes = next(iter(sample.values()))["seconds"] / 60
    texts = [
        f"{name} {one['mb']:.1f} MB {one['descriptors']} {one['threads']}" for name, one in sample.items()
    ]
    print(f"{minutes:5.1f} min   " + "   ".join(texts), flush=True)


def _child_of(parent: int) -> int:
    """The only process that another has started; UserError if there is none."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has just ended
            continue
        if int(text.rpartition(")")[2].split()[1]) == parent:
            return int(stat.parent.name)
    raise UserError(f"process {parent}: has no child: expected the one of inference")


@contextmanager
def _control_loop(url: str, files: Credentials, port: str, seconds: float) -> Iterator[int]:
    """Process id of an `embodied run` that lasts longer than `seconds`."""
    flags = {
        "robot.type": "sim_so101",
        "robot.port": port,
        "server.url": url,
        "server.token_file": files.token,
        "server.ca": files.authority,
        "task": "bring the gripper around the red cube",
        "seconds": seconds + 600,
        "patience": 120,
    }
    command = [
        sys.executable,
        "-m",
        "embodied.cli",
        "run",
        *(f"--{name}={value}" for name, value in flags.items()),
    ]
    process = subprocess.Popen(command, start_new_session=True)  # an interrupt is ours alone
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
