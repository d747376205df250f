"""`embodied collect`: experts in worker processes fill a LeRobotDataset v3, whatever happens in between.

Every episode is a function of the data set's seed, its task, behaviour and number, and episodes are written
in a fixed order: the same seed gives the same data whatever the number of workers, and however often the
collection was stopped. After every episode the folder is a data set that LeRobot opens.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embodied.config import CollectConfig
from embodied.data.behaviours import DEMONSTRATIONS, FAILURES, EpisodeJob, Recorder
from embodied.data.claim import claim
from embodied.data.commit import is_unfinished, recover
from embodied.data.dataset import fingerprint
from embodied.data.workers import RecordingError, WorkerDied, record_episodes
from embodied.data.writer import BEHAVIOUR, EpisodeWriter, count_episodes
from embodied.errors import DISK_FULL, UserError
from embodied.lerobot_plugin import SimulatedEnvConfig, require_simulated

ERROR_FILE = "collection_error.txt"


def collect(config: CollectConfig) -> dict[str, Any]:
    """Record the demonstrations that `config` asks for, or those that an interrupted collection lacks.

    Returns what `complete_collection` does.

    Raises:
        UserError: the data set is complete already, or for the reasons of `complete_collection`.
    """
    return _collect(config, refuse_complete=True)


def complete_collection(config: CollectConfig) -> dict[str, Any]:
    """Record what the data set that `config` asks for lacks, which may be nothing.

    Returns `root`, `episodes`, `frames`, `seconds` and `frames_per_second` of this run, `recorded` (episodes
    in this run), `fingerprint` and per task, under `tasks`, the `instruction` and per behaviour the
    `episodes`, `successes`, `frames` and `attempts`.

    Raises:
        UserError: the folder is taken, the environment is not ours, an expert never succeeds, the simulation
            fails, a worker dies or the disk is full; what is recorded by then is kept.
        KeyboardInterrupt: SIGINT or SIGTERM; the message says how to go on.
    """
    return _collect(config, refuse_complete=False)


def is_complete(config: CollectConfig) -> bool:
    """Whether the data set that `config` asks for lacks nothing."""
    root = config.dataset.root
    count = len(plan_jobs(config, require_simulated(config.env).tasks))
    # A stop in the last commit leaves something to do, if only to finish that.
    return count_episodes(root) == count and not is_unfinished(root)


def _collect(config: CollectConfig, *, refuse_complete: bool) -> dict[str, Any]:
    env = require_simulated(config.env)
    jobs = plan_jobs(config, env.tasks)
    workers = _num_workers(config, len(jobs))
    root = config.dataset.root
    with claim(config):
        was_complete = is_complete(config)
        writer = EpisodeWriter(root, env.env_fn(env.tasks[0])(), video=config.video)
        if refuse_complete and was_complete:
            raise UserError(
                f"--dataset.root={root}: holds the complete data set of this command; "
                "expected a folder that is new or empty"
            )
        episodes, frames, started = writer.num_episodes, writer.num_frames, time.perf_counter()
        (root / ERROR_FILE).unlink(missing_ok=True)
        with _stops_explained(root, len(jobs)):
            _record(writer, jobs, env, workers)
    seconds = time.perf_counter() - started
    return {
        "root": str(root),
        "episodes": len(jobs),
        "frames": writer.num_frames,
        "recorded": len(jobs) - episodes,
        "seconds": seconds,
        "frames_per_second": (writer.num_frames - frames) / seconds,
        "fingerprint": fingerprint(root),
        "tasks": _tally(writer.marks()),
    }


def _record(writer: EpisodeWriter, jobs: list[EpisodeJob], env: SimulatedEnvConfig, workers: int) -> None:
    """Record and write the jobs whose episodes are missing."""
    recorder = partial(
        Recorder,
        {task: env.env_fn(task, terminate_on_success=False) for task in env.tasks},
        {task: env.expert_fn(task) for task in env.tasks},
    )
    started, first_frame = time.perf_counter(), writer.num_frames
    missing = jobs[writer.num_episodes :]
    with (
        tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc="collect", unit="episode") as bar,
        closing(record_episodes(missing, recorder, min(workers, len(missing)))) as episodes,
    ):
        for episode in episodes:
            writer.add(episode)
            rate = (writer.num_frames - first_frame) / (time.perf_counter() - started)
            bar.set_postfix_str(f"{rate:.0f} frames/s")
            bar.update()


@contextmanager
def _stops_explained(root: Path, total: int) -> Iterator[None]:
    """Turn whatever stops a collection from outside into one line that says what is kept and what to do."""
    try:
        with _terminated_like_interrupted():
            yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {_kept(root, total)}") from None
    except WorkerDied as error:
        raise UserError(f"{error}; {_kept(root, total)}") from error
    except RecordingError as error:
        (root / ERROR_FILE).write_text(error.details)
        raise UserError(f"{error}; see {root / ERROR_FILE}; {_kept(root, total)}") from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"{root}: {error.strerror}: expected free space; {_kept(root, total)}") from error


def _kept(root: Path, total: int) -> str:
    recover(root)
    return f"{root} keeps {count_episodes(root)} of {total} episodes, and the same command goes on from there"


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt too; other threads than the main one get no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def plan_jobs(config: CollectConfig, tasks: Iterable[str]) -> list[EpisodeJob]:
    """Every episode to record, in the order in which the data set holds them."""
    counts = {
        "expert": config.episodes,
        "noisy": config.noisy_episodes,
        "disturbed": config.disturbed_episodes,
        "random": config.random_episodes,
        "wandering": config.wandering_episodes,
    }
    return [
        EpisodeJob(
            task=task,
            behaviour=behaviour,
            index=index,
            seed=config.seed,
            noise=config.noise,
            wanted=_wanted(behaviour, config.keep_failures),
        )
        for task in tasks
        for behaviour, count in counts.items()
        for index in range(count)
    ]


def _wanted(behaviour: str, keep_failures: bool) -> str:
    if behaviour in FAILURES:
        return "failure"
    return "success" if behaviour in DEMONSTRATIONS and not keep_failures else "any"


def _num_workers(config: CollectConfig, num_jobs: int) -> int:
    if config.workers is not None and config.workers < 1:
        raise UserError(f"--workers={config.workers}: expected at least 1")
    return min(config.workers or os.cpu_count() or 1, num_jobs)


def _tally(marks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per task its instruction and per behaviour what was recorded."""
    tasks: dict[str, dict[str, Any]] = {}
    for row in marks:
        task = tasks.setdefault(row["env_task"], {"instruction": row["tasks"][0]})
        counts = task.setdefault(row[BEHAVIOUR], Counter(episodes=0, successes=0, frames=0, attempts=0))
        counts.update(
            episodes=1, successes=int(row["success"]), frames=row["length"], attempts=row["attempts"]
        )
    return {
        task: {key: dict(value) if isinstance(value, Counter) else value for key, value in entry.items()}
        for task, entry in tasks.items()
    }
