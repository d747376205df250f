"""Everything beyond the weights that training must remember, as safetensors and JSON.

`model.safetensors` in the checkpoint itself holds the weights to act with: the average if there is one. Then
the weights being optimized lie here, beside the optimizer's moments, the state of every random generator and
the sums of metrics since the last log line. The learning rate and the average's decay are functions of the
step.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from embodied.errors import UserError
from embodied.manifest import read_json, write_json
from embodied.training.checkpoint import TRAINING_STATE
from embodied.training.optim import WeightAverage

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
RNG = "rng.safetensors"
METRICS = "metrics.safetensors"
STATE = "state.json"


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of every global generator: uint8 tensors, and the small remainder as JSON values."""
    legacy: Any = np.random.get_state(legacy=True)  # NumPy's stub allows for the dictionary form as well
    _, keys, position, has_gauss, cached = legacy
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.view(np.uint8).copy())}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    version, internal, gauss = random.getstate()
    values = {
        "python": [version, list(internal), gauss],
        "numpy": {"position": position, "has_gauss": has_gauss, "cached_gaussian": cached},
    }
    return tensors, values


def set_random_state(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Put every global generator back to a state taken by `random_state`."""
    torch.set_rng_state(tensors["torch"].cpu())
    for device in range(torch.cuda.device_count()):
        if f"cuda.{device}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{device}"].cpu(), device)
    keys = tensors["numpy"].cpu().numpy().view(np.uint32)
    rest = values["numpy"]
    np.random.set_state(("MT19937", keys, rest["position"], rest["has_gauss"], rest["cached_gaussian"]))
    version, internal, gauss = values["python"]
    random.setstate((version, tuple(internal), gauss))


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`<parameter name>/<moment>` -> tensor."""
    return {
        f"{name}/{key}": value.detach().contiguous()
        for name, parameter in module.named_parameters()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
    }


def _set_optimizer_tensors(
    module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Fill the optimizer's state, each moment in its parameter's memory layout, for the fused update."""
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, moment = key.rsplit("/", 1)
        parameter = parameters[name]
        held = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
        optimizer.state[parameter][moment] = held.detach().to(parameter.device).copy_(value)


def save_training_state(
    checkpoint: Path,
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: bool,
    metrics: dict[str, Tensor],
    values: dict[str, Any],
) -> None:
    """Write the training state into a checkpoint folder.

    averaged: whether the checkpoint's own `model.safetensors` holds averaged weights, so that the optimized
    ones must be saved as well. metrics: sums since the last log line. values: step, data cursor and the like,
    as JSON.
    """
    folder = checkpoint / TRAINING_STATE
    folder.mkdir()
    tensors, generators = random_state()
    save_file(tensors, folder / RNG)
    save_file(_optimizer_tensors(module, optimizer), folder / OPTIMIZER)
    save_file(metrics, folder / METRICS)
    if averaged:
        save_model(module, str(folder / MODEL))
    write_json(folder / STATE, {**values, "generators": generators})


def read_training_values(checkpoint: Path, *, averaged: bool) -> dict[str, Any]:
    """The JSON part of the training state.

    averaged: whether this run averages weights. Raises UserError if the checkpoint holds no training state
    (LeRobot's, an export) or comes from a run that did otherwise.
    """
    folder = checkpoint / TRAINING_STATE
    for name in (STATE, OPTIMIZER, RNG, METRICS):
        if not (folder / name).is_file():
            raise UserError(
                f"{checkpoint}: has no {TRAINING_STATE}/{name}: expected a checkpoint that this version of "
                "`embodied train` wrote"
            )
    if (folder / MODEL).is_file() != averaged:
        raise UserError(
            f"--optimizer.ema_decay: expected {'0' if averaged else 'above 0'}, as in {checkpoint}, which "
            "--resume=true continues"
        )
    return read_json(folder / STATE)


def load_training_state(
    checkpoint: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> None:
    """Put weights, average and optimizer back exactly as they were saved."""
    folder = checkpoint / TRAINING_STATE
    load_model(module, checkpoint / MODEL)
    if average is not None:
        average.copy_from_parameters()
        load_model(module, folder / MODEL)
    _set_optimizer_tensors(module, optimizer, load_file(folder / OPTIMIZER))


def load_metrics(checkpoint: Path) -> dict[str, Tensor]:
    """The sums of metrics that were saved."""
    return load_file(checkpoint / TRAINING_STATE / METRICS)


def load_random_state(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The saved state of every global generator, for `set_random_state` right before the next step."""
    folder = checkpoint / TRAINING_STATE
    return load_file(folder / RNG), read_json(folder / STATE)["generators"]
