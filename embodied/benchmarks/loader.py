"""`embodied bench loader`: samples per second of our windows against LeRobotDataset with the same windows.

Both deliver single frames of every camera and chunks of 12 actions, in turn in one run. The peer runs under
torch's DataLoader without workers and with two, and its better median counts. Its PNG pictures come as
floats, so ours are counted with `scale_images` as well; `ours_uint8` is the loader alone.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from lerobot.datasets import LeRobotDataset
from lerobot.utils.collate import lerobot_collate_fn
from lerobot.utils.constants import ACTION
from torch.utils.data import DataLoader, RandomSampler

from embodied.config import BenchConfig, CollectConfig, DatasetConfig
from embodied.data.cache import FrameCache
from embodied.data.collect import collect
from embodied.data.windows import WindowLoader, scale_images
from embodied.lerobot_plugin import EmbodiedMetaworldEnv

CHUNK = 12
EPISODES = 10
"""Demonstrations of the temporary data set, some 400 frames; both sides read it from memory."""

SHARE = 10
"""We run this many times `steps` batches and the peer this part of them: each is timed for a second or so."""

PEER_WORKERS = (0, 2)


def bench_loader(config: BenchConfig) -> dict[str, Any]:
    """Measure both loaders `config.repeats` times in turn.

    Returns `unit`, the medians `ours`, `peer` and `ratio` (of the pairs), `ours_uint8`, `peer_workers`,
    `frames`, and `pairs`, the single measurements.
    """
    with _data_set(config) as root:
        cache = FrameCache.open(root)
        windows = {ACTION: list(range(CHUNK))}
        ours = WindowLoader(cache, delta_indices=windows, batch_size=config.batch_size, seed=0)
        seconds = {key: [delta / cache.fps for delta in deltas] for key, deltas in windows.items()}
        theirs = LeRobotDataset(
            root.name, root=root, delta_timestamps=seconds, video_backend="pyav", return_uint8=True
        )
        runs: list[dict[str, float]] = []
        for _ in range(config.repeats):
            run = {
                "ours": _time_ours(ours, SHARE * config.steps, scale_images),
                "ours_uint8": _time_ours(ours, SHARE * config.steps, lambda batch: batch),
            }
            for workers in PEER_WORKERS:
                batches = max(2, config.steps // SHARE)
                run[f"peer_{workers}_workers"] = _time_peer(theirs, config.batch_size, batches, workers)
            runs.append(run)
    medians = {name: median(run[name] for run in runs) for name in runs[0]}
    workers = max(PEER_WORKERS, key=lambda count: medians[f"peer_{count}_workers"])
    peer = f"peer_{workers}_workers"
    return {
        "unit": "samples per second",
        "ours": medians["ours"],
        "peer": medians[peer],
        "ratio": median(run["ours"] / run[peer] for run in runs),
        "ours_uint8": medians["ours_uint8"],
        "peer_workers": workers,
        "frames": cache.num_frames,
        "pairs": runs,
    }


@contextmanager
def _data_set(config: BenchConfig) -> Iterator[Path]:
    if config.dataset_root is not None:
        yield config.dataset_root
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "bench")
        env = EmbodiedMetaworldEnv(task="reach", width=config.image_size, height=config.image_size)
        collect(CollectConfig(env=env, dataset=DatasetConfig(root=root), episodes=EPISODES))
        yield root


def _time_ours(loader: WindowLoader, batches: int, finish: Callable[[dict], dict]) -> float:
    started, delivered = time.perf_counter(), loader.state()["cursor"]
    for _ in range(batches):
        finish(next(loader))
    return (loader.state()["cursor"] - delivered) / (time.perf_counter() - started)


def _time_peer(dataset: LeRobotDataset, batch_size: int, batches: int, workers: int) -> float:
    """Samples per second after the first batch, which waits for the workers to start."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=batch_size * (batches + 1))
    loader = iter(
        DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=lerobot_collate_fn,
        )
    )
    next(loader)
    started = time.perf_counter()
    for _ in loader:
        pass
    return batch_size * batches / (time.perf_counter() - started)
