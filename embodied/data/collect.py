"""`embodied collect`: scripted experts in worker processes fill a LeRobotDataset v3.

Every episode is a function of the data set's seed, its task, behaviour and number, and episodes are written
in a fixed order: the same seed gives the same data whatever the number of workers.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lerobot.envs.configs import EnvConfig
from tqdm import tqdm

from embodied.config import CollectConfig
from embodied.data.behaviours import (
    DEMONSTRATIONS,
    EpisodeJob,
    RecordedEpisode,
    Recorder,
    record_in_worker,
    start_worker,
)
from embodied.data.dataset import fingerprint
from embodied.data.writer import EpisodeWriter, make_features
from embodied.errors import UserError
from embodied.lerobot_plugin import EmbodiedMetaworldEnv


def collect(config: CollectConfig) -> dict[str, Any]:
    """Record the demonstrations that `config` asks for.

    Returns `root`, `episodes`, `frames`, `seconds`, `frames_per_second`, `fingerprint` and per task, under
    `tasks`, the `instruction` and per behaviour the `episodes`, `successes`, `frames` and `attempts`.

    Raises:
        UserError: the folder is taken, the environment has no experts, or an expert never succeeds.
    """
    env = _metaworld(config.env)
    jobs = plan_jobs(config, env.tasks)
    features = make_features(env.camera_names, env.height, env.width, video=config.video)
    tallies: dict[tuple[str, str], Counter] = {}
    instructions: dict[str, str] = {}
    started = time.perf_counter()
    with _new_folder(config.dataset.root) as folder:
        writer = EpisodeWriter(folder, config.dataset.repo_id, env.fps, features)
        with tqdm(total=len(jobs), desc="collect", unit="episode") as bar:
            for episode in run_jobs(jobs, env.gym_kwargs, _num_workers(config, len(jobs))):
                writer.add(episode)
                _count(tallies, instructions, episode)
                bar.set_postfix_str(f"{writer.num_frames / (time.perf_counter() - started):.0f} frames/s")
                bar.update()
        writer.finalize()
    seconds = time.perf_counter() - started
    return {
        "root": str(config.dataset.root),
        "episodes": len(jobs),
        "frames": writer.num_frames,
        "seconds": seconds,
        "frames_per_second": writer.num_frames / seconds,
        "fingerprint": fingerprint(config.dataset.root),
        "tasks": {
            task: {"instruction": text, **{b: dict(tally) for (t, b), tally in tallies.items() if t == task}}
            for task, text in instructions.items()
        },
    }


def plan_jobs(config: CollectConfig, tasks: Iterable[str]) -> list[EpisodeJob]:
    """Every episode to record, in the order in which the data set holds them."""
    counts = {
        "expert": config.episodes,
        "noisy": config.noisy_episodes,
        "disturbed": config.disturbed_episodes,
        "random": config.random_episodes,
    }
    return [
        EpisodeJob(
            task=task,
            behaviour=behaviour,
            index=index,
            seed=config.seed,
            noise=config.noise,
            keep_failures=config.keep_failures or behaviour not in DEMONSTRATIONS,
        )
        for task in tasks
        for behaviour, count in counts.items()
        for index in range(count)
    ]


def run_jobs(jobs: list[EpisodeJob], env_kwargs: dict[str, Any], workers: int) -> Iterator[RecordedEpisode]:
    """Yield the recorded episodes in the order of `jobs`; a single worker is this process itself."""
    if workers == 1:
        recorder = Recorder(env_kwargs)
        try:
            yield from map(recorder.record, jobs)
        finally:
            recorder.close()
        return
    # Spawned, not forked: each worker needs an OpenGL context of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (env_kwargs,)) as pool:
        yield from pool.map(record_in_worker, jobs)


def _num_workers(config: CollectConfig, num_jobs: int) -> int:
    if config.workers is not None and config.workers < 1:
        raise UserError(f"--workers={config.workers}: expected at least 1")
    return min(config.workers or os.cpu_count() or 1, num_jobs)


def _metaworld(env: EnvConfig) -> EmbodiedMetaworldEnv:
    if not isinstance(env, EmbodiedMetaworldEnv):
        raise UserError(f"--env.type={env.type}: expected embodied_metaworld, which has scripted experts")
    return env


def _count(
    tallies: dict[tuple[str, str], Counter], instructions: dict[str, str], episode: RecordedEpisode
) -> None:
    job = episode.job
    instructions[job.task] = episode.instruction
    tally = tallies.setdefault(
        (job.task, job.behaviour), Counter(episodes=0, successes=0, frames=0, attempts=0)
    )
    tally.update(
        episodes=1, successes=int(episode.is_success), frames=episode.num_frames, attempts=episode.attempts
    )


@contextmanager
def _new_folder(root: Path) -> Iterator[Path]:
    """A folder to fill that becomes `root` at the end, so that `root` never holds half a data set."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"--dataset.root={root}: expected a folder that is new or empty")
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        yield staging / root.name
        if root.exists():
            root.rmdir()
        (staging / root.name).rename(root)
    finally:
        shutil.rmtree(staging)
