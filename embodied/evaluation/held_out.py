"""Demonstrations that a checkpoint has not been trained on."""

from pathlib import Path

from embodied.config import DatasetConfig
from embodied.data.cache import FrameCache
from embodied.errors import UserError
from embodied.evaluation.calibration import open_dataset
from embodied.manifest import read_json
from embodied.training.checkpoint import PROVENANCE, TRAINING_STATE, resolve_checkpoint


def open_held_out(dataset: DatasetConfig, checkpoint: Path) -> FrameCache:
    """What `dataset` selects of a data set; UserError if the checkpoint was trained on some of it."""
    cache = open_dataset(dataset)
    folder = resolve_checkpoint(checkpoint)
    provenance, state = folder / PROVENANCE, folder / TRAINING_STATE / "state.json"
    trained = read_json(provenance)["dataset"] if provenance.is_file() else {}
    if trained.get("fingerprint") != cache.fingerprint:
        return cache
    run = read_json(state)["run"]["dataset"] if state.is_file() else {}
    seen = run.get("episodes") or range(cache.num_episodes)
    overlap = sorted(set(seen) & set(cache.episodes.tolist()))
    if overlap:
        raise UserError(
            f"--dataset.root={dataset.root}: the model was trained on its episode {overlap[0]}: "
            "expected another data set, or --dataset.episodes that were held out"
        )
    return cache
