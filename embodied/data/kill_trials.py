"""Does a collection survive kill -9? Start it, kill it at a chosen moment, open what is left, complete it.

A trial is the command line in a process of its own, forked from one that has done nothing but the imports,
which take most of a short collection's time. What is left has to open in stock LeRobot with every episode
that was on the disk before the signal, each equal to that of an undisturbed run; no process may be left; and
the same command has to end with the very same files.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import config as datasets_config
from lerobot.datasets import LeRobotDataset

from embodied.data.claim import NOTE
from embodied.data.commit import COMMITTED, PENDING, is_unfinished
from embodied.data.dataset import fingerprint
from embodied.data.writer import count_episodes
from embodied.forked import start_command

SIGNS = {"episode": NOTE, "writing": PENDING, "committing": COMMITTED}
"""What has to be in the folder when a moment begins, beside enough episodes."""

SECONDS_TO_WAIT = 1800
POLL_SECONDS = 0.0005


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to kill: `seconds` after `sign`, a key of SIGNS, is seen with `episodes` on the disk."""

    episodes: int
    sign: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds from its first sign of life to the first episode, then per episode, and to write one."""

    first: float
    each: float
    writing: float = 0.05


def draw_moments(count: int, episodes: int, pace: Pace, seed: int) -> list[Moment]:
    """Moments all over a collection of `pace`, half of them while an episode is written."""
    rng = np.random.default_rng(seed)
    moments = []
    for number in range(count):
        sign = ("episode", "writing", "episode", "committing")[number % 4]
        done = int(rng.integers(episodes))
        longest = pace.writing if sign != "episode" else pace.each if done else pace.first
        moments.append(Moment(episodes=done, sign=sign, seconds=float(rng.uniform(0, longest))))
    return moments


def run(flags: Sequence[str], root: Path) -> Pace:
    """Run a collection to its end."""
    process = _start(flags, root)
    _wait_for(process, lambda: (root / NOTE).exists())
    began = time.perf_counter()
    _wait_for(process, lambda: count_episodes(root) > 0)
    first = time.perf_counter()
    process.join(SECONDS_TO_WAIT)
    if process.exitcode != 0:
        raise RuntimeError(f"collection into {root} ended with exit code {process.exitcode}")
    return Pace(first=first - began, each=(time.perf_counter() - first) / count_episodes(root))


def try_moment(moment: Moment, flags: Sequence[str], root: Path, reference: Path) -> dict[str, Any]:
    """Kill a new collection into `root`, check what is left, and complete it.

    flags: of `embodied collect`, without the folder; reference: what they give undisturbed. Returns the
    moment, `killed` (false if the collection had ended by then), `seen` and `kept` (episodes before and after
    the signal), `left` (folders of a commit that was under way), and the checks `opens`, `alone` (no process
    is left) and `identical` (after completion).
    """
    process = _start(flags, root)
    _wait_for(process, lambda: _is_reached(moment, root))
    time.sleep(moment.seconds)
    seen, killed = count_episodes(root), process.is_alive()
    process.kill()
    process.join()
    alone = _group_ends(process.pid or 0)
    kept, left = count_episodes(root), [name for name in (PENDING, COMMITTED) if (root / name).exists()]
    opens = kept >= seen and _is_beginning_of(root, reference)
    if left or kept < count_episodes(reference):
        run(flags, root)
    identical = fingerprint(root) == fingerprint(reference)
    return asdict(moment) | {
        "killed": killed,
        "seen": seen,
        "kept": kept,
        "left": left,
        "opens": opens,
        "alone": alone,
        "identical": identical and not is_unfinished(root),
    }


def _start(flags: Sequence[str], root: Path) -> BaseProcess:
    args = ["collect", *flags, f"--dataset.root={root}"]
    return start_command(args, root.with_name(f"{root.name}.log"), [__name__, "embodied.data.collect"])


def _wait_for(process: BaseProcess, is_reached: Callable[[], bool]) -> None:
    while process.is_alive() and not is_reached():
        time.sleep(POLL_SECONDS)


def _is_reached(moment: Moment, root: Path) -> bool:
    return count_episodes(root) >= moment.episodes and (root / SIGNS[moment.sign]).exists()


def _group_ends(group: int) -> bool:
    """Wait until no process of the group is left; a worker may finish its episode first."""
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def _is_beginning_of(root: Path, reference: Path) -> bool:
    """Whether LeRobot opens `root` and finds there the first episodes of `reference`, frame by frame."""
    if not count_episodes(root):
        return True
    with opened(root, reference) as (mine, whole):
        return mine.num_episodes <= whole.num_episodes and all(
            _equal(mine[i], whole[i]) for i in range(mine.num_frames)
        )


@contextmanager
def opened(*roots: Path) -> Iterator[list[LeRobotDataset]]:
    """Data sets as stock LeRobot opens them, without what it remembers of the folder's earlier states."""
    with tempfile.TemporaryDirectory() as cache:
        datasets_config.HF_DATASETS_CACHE = Path(cache)
        yield [LeRobotDataset("local/killed", root, video_backend="pyav") for root in roots]


def _equal(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def passed(trial: dict[str, Any]) -> bool:
    """Whether the collection was killed in time and survived."""
    return all(trial[check] for check in ("killed", "opens", "alone", "identical"))
