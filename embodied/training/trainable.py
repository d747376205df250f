"""What the training loop asks of a model, policy or world model alike."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

Batch = dict[str, Any]
EpisodeRows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Trainable:
    """A model and how to feed, save and judge it.

    module: `forward(batch) -> (loss, metrics)` on its device.
    preprocess: a batch as LeRobot collates it, images float in [0, 1] -> what `forward` takes.
    save: writes `model.safetensors` (by safetensors' `save_model`), `config.json`, what else loading needs.
    delta_indices: window of each data set key, in frames relative to the current one.
    episode_window: W, if a sample is to be whole episodes in W looks; 0 if it is a single frame.
    episode_stride: frames from one look to the next.
    episode_decisions: at how many of a window's looks it decides, 0 for all.
    parameter_groups: for the optimizer; a group's own `lr` and `weight_decay` win over the run's.
    identity: JSON description of the architecture; a checkpoint resumes only under an equal one.
    specification: JSON description of inputs and outputs, saved with every checkpoint.
    after_step: called after each optimizer step, if the model has something to update by itself.
    evaluate: (episodes per task, first seed) -> one row per episode, as `evaluate_policy` gives them; None
    if the model cannot act or no environment was given.
    """

    module: nn.Module
    preprocess: Callable[[Batch], Any]
    save: Callable[[Path], None]
    delta_indices: dict[str, list[int]]
    parameter_groups: Iterable[dict[str, Any]]
    identity: dict[str, Any]
    specification: dict[str, Any]
    episode_window: int = 0
    episode_stride: int = 1
    episode_decisions: int = 0
    after_step: Callable[[], None] | None = None
    evaluate: Callable[[int, int], EpisodeRows] | None = None
