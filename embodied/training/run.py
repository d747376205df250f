"""What a run needs before its first step: output folder, data, model, and a checkpoint that fits them."""

import copy
import dataclasses
import json
import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
from accelerate import Accelerator
from lerobot.datasets import LeRobotDatasetMetadata

from embodied.config import DatasetConfig, TrainConfig
from embodied.data.augment import parse_augmentations
from embodied.data.cache import FrameCache
from embodied.data.dataset import open_metadata
from embodied.data.looks import LookLoader
from embodied.data.statistics import seen_metadata, training_statistics
from embodied.data.windows import WindowLoader
from embodied.errors import UserError
from embodied.manifest import TEMPORARY_PREFIX, write_json
from embodied.training.checkpoint import last_checkpoint, load_last_checkpoint, recover
from embodied.training.feed import Loader
from embodied.training.lock import LOCK, OutputLock
from embodied.training.policies import name_subgoals, policy_trainable
from embodied.training.state import read_training_values, seed_everything
from embodied.training.trainable import Trainable
from embodied.training.world_models import world_model_trainable

logger = logging.getLogger(__name__)

SETTINGS = "train_config.json"
JOINT_BATCH = "joint_batch"
NO_FLAGS = {
    "dataset.fingerprint": "the data's fingerprint",
    JOINT_BATCH: "--batch_size of all processes together",
}
"""Parts of a run's identity that no single flag sets."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A prepared run.

    dataset: description with fingerprint; settings: the whole configuration; identity: what must stay equal
    on resume; checkpoint: the folder resumed from, None at a fresh start.
    """

    trainable: Trainable
    loader: Loader
    augmentation: str
    dataset: dict[str, Any]
    settings: dict[str, Any]
    identity: dict[str, Any]
    checkpoint: Path | None
    start_step: int
    samples_per_step: int
    resume_command: str


def prepare(config: TrainConfig, accelerator: Accelerator, lock: OutputLock) -> Run:
    """Check the output folder, open the data, build the model; nothing is trained or loaded yet.

    The lock is taken before anything in the output folder changes. Raises UserError if the folder is taken,
    nothing is there to resume, or the run differs from its checkpoint.
    """
    settings = draccus.encode(dataclasses.replace(config, resume=False))
    checkpoint = None
    if config.resume:
        with accelerator.main_process_first():
            if accelerator.is_main_process:
                _claim_run(config.output_dir, lock)
            checkpoint = load_last_checkpoint(config.output_dir)
    elif accelerator.is_main_process:
        _require_empty(config.output_dir)
    parse_augmentations(config.dataset.augmentation)
    metadata = open_metadata(config.dataset.root)
    with accelerator.main_process_first():
        cache = FrameCache.open(
            config.dataset.root,
            cameras=config.dataset.cameras,
            episodes=config.dataset.episodes,
            success_only=config.dataset.success_only,
        )
    statistics = training_statistics(config.policy, metadata, cache)
    seed_everything(config.seed)
    seen = seen_metadata(metadata, cache, statistics)
    trainable = _make_trainable(config, seen, cache, resumes=config.resume)
    dataset = _describe(config.dataset, cache)
    episodes = cache.episodes.tolist()
    identity = _identity(config, trainable, dataset, episodes, accelerator.num_processes)
    values: dict[str, Any] = {"step": 0, "loader": {"seed": config.seed, "cursor": 0}}
    if checkpoint is not None:
        values = read_training_values(checkpoint, averaged=config.optimizer.ema_decay > 0)
        _require_same(identity, values["run"], checkpoint)
        if values["step"] > config.steps:
            raise UserError(
                f"--steps={config.steps}: {checkpoint} is past that: expected at least {values['step']}"
            )
    loader = _open_loader(
        config,
        trainable,
        cache,
        cursor=values["loader"]["cursor"],
        place=(accelerator.process_index, accelerator.num_processes),
    )
    if accelerator.is_main_process:
        if not config.resume:
            config.output_dir.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            _require_empty(config.output_dir)  # another process may have been faster
        write_json(config.output_dir / SETTINGS, settings)
    accelerator.wait_for_everyone()
    settings_file = shlex.quote(str(config.output_dir / SETTINGS))
    return Run(
        trainable=trainable,
        loader=loader,
        augmentation=config.dataset.augmentation,
        dataset=dataset,
        settings=settings,
        identity=identity,
        checkpoint=checkpoint,
        start_step=values["step"],
        samples_per_step=config.batch_size * config.accumulation * accelerator.num_processes,
        resume_command=f"embodied train --config_path={settings_file} --resume=true",
    )


def _make_trainable(
    config: TrainConfig, metadata: LeRobotDatasetMetadata, cache: FrameCache, *, resumes: bool
) -> Trainable:
    """The policy or the world model of `config`, for the data in `cache`, which `metadata` describes."""
    if config.model is not None:
        return world_model_trainable(config.model, metadata)
    assert config.policy is not None
    env = config.env if config.eval_freq else None
    policy = copy.deepcopy(config.policy)
    name_subgoals(policy, cache)
    return policy_trainable(policy, metadata, env, resumes=resumes)


def _open_loader(
    config: TrainConfig, trainable: Trainable, cache: FrameCache, *, cursor: int, place: tuple[int, int]
) -> Loader:
    """Batches of shuffled frames, or of whole episodes for a model with memory, for one of the processes."""
    episodes = cache.episodes.tolist()
    if not trainable.episode_window:
        return WindowLoader(
            cache,
            delta_indices=trainable.delta_indices,
            batch_size=config.batch_size,
            seed=config.seed,
            cursor=cursor,
            task_weights=config.dataset.task_weights,
            emphasis=config.dataset.emphasis,
            episodes=episodes,
            place=place,
        )
    if config.dataset.task_weights:
        raise UserError(
            f"--dataset.task_weights={config.dataset.task_weights}: expected none with "
            "--policy.memory_tokens, which trains on whole episodes"
        )
    return LookLoader(
        cache,
        delta_indices=trainable.delta_indices,
        batch_size=config.batch_size,
        window=trainable.episode_window,
        stride=trainable.episode_stride,
        decisions=trainable.episode_decisions,
        emphasis=config.dataset.emphasis,
        seed=config.seed,
        cursor=cursor,
        episodes=episodes,
        place=place,
    )


# --- output folder --------------------------------------------------------------------------------


def _require_empty(output_dir: Path) -> None:
    """UserError unless there is nothing in the folder, or only what a process killed at its start leaves."""
    if not output_dir.exists():
        return
    if output_dir.is_dir():
        names = [path.name for path in output_dir.iterdir()]
        if all(name == LOCK or name.startswith(TEMPORARY_PREFIX) for name in names):
            return
    raise UserError(
        f"--output_dir={output_dir}: exists and is not empty: expected a new folder, "
        "or --resume=true to continue the run in it"
    )


def _claim_run(output_dir: Path, lock: OutputLock) -> None:
    """Make the run in a folder ours to continue, in the state of its last finished write."""
    if last_checkpoint(output_dir) is None and not (output_dir / SETTINGS).is_file():
        raise UserError(
            f"--resume=true: {output_dir} holds no checkpoint: expected the --output_dir of an earlier run"
        )
    lock.acquire()
    recover(output_dir)
    if last_checkpoint(output_dir) is None:
        logger.warning("%s: stopped before its first checkpoint; starting at step 0", output_dir)


# --- resuming -------------------------------------------------------------------------------------


def _describe(dataset: DatasetConfig, cache: FrameCache) -> dict[str, Any]:
    return {
        "repo_id": dataset.repo_id,
        "root": str(dataset.root),
        "fingerprint": cache.fingerprint,
        "episodes": cache.num_episodes,
        "frames": cache.num_frames,
        "fps": cache.fps,
    }


def _identity(
    config: TrainConfig,
    trainable: Trainable,
    dataset: dict[str, Any],
    episodes: list[int],
    processes: int,
) -> dict[str, Any]:
    """What decides the network and the stream of samples. The optimizer's settings may change on resume."""
    selection = dataclasses.asdict(config.dataset)
    identity = {
        "policy" if config.model is None else "model": trainable.identity,
        "dataset": {
            "fingerprint": dataset["fingerprint"],
            "episodes": None if len(episodes) == dataset["episodes"] else episodes,
            **{key: selection[key] for key in ("cameras", "task_weights", "augmentation")},
            **({"emphasis": selection["emphasis"]} if selection["emphasis"] else {}),
        },
        "seed": config.seed,
        JOINT_BATCH: config.batch_size * processes,
        "accumulation": config.accumulation,
    }
    return json.loads(json.dumps(identity))


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _require_same(now: dict[str, Any], then: dict[str, Any], checkpoint: Path) -> None:
    """UserError naming the first thing in which the run differs from the one that wrote the checkpoint."""
    present, saved = dict(_flatten(now)), dict(_flatten(then))
    for key in sorted(present.keys() | saved.keys()):
        if present.get(key) != saved.get(key):
            raise UserError(
                f"{NO_FLAGS.get(key, f'--{key}')}={present.get(key)}: expected {saved.get(key)} as in "
                f"{checkpoint}, which --resume=true continues"
            )
