"""Everything beyond the weights that training must remember, as safetensors and JSON.

`model.safetensors` in the checkpoint itself holds the weights to act with: the average if there is one. Then
the weights being optimized lie here, beside the optimizer's moments and the state of every random generator.
The learning rate and the average's decay are functions of the step.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from embodied.errors import UserError
from embodied.training.checkpoint import read_json, write_json
from embodied.training.optim import WeightAverage

FOLDER = "training_state"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
RNG = "rng.safetensors"
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
    values: dict[str, Any],
) -> None:
    """Write the training state into a checkpoint folder.

    averaged: whether the checkpoint's own `model.safetensors` holds averaged weights, so that the optimized
    ones must be saved as well. values: step, data cursor and the like, as JSON.
    """
    folder = checkpoint / FOLDER
    folder.mkdir()
    tensors, generators = random_state()
    save_file(tensors, folder / RNG)
    save_file(_optimizer_tensors(module, optimizer), folder / OPTIMIZER)
    if averaged:
        save_model(module, str(folder / MODEL))
    write_json(folder / STATE, {**values, "generators": generators})


def read_training_values(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of the training state; UserError if the checkpoint holds none (LeRobot's, an export)."""
    if not (checkpoint / FOLDER / STATE).is_file():
        raise UserError(
            f"{checkpoint}: has no {FOLDER}/{STATE}: expected a checkpoint that `embodied train` wrote"
        )
    return read_json(checkpoint / FOLDER / STATE)


def load_training_state(
    checkpoint: Path, *, module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
) -> None:
    """Put weights, average and optimizer back exactly as they were saved."""
    folder = checkpoint / FOLDER
    load_model(module, checkpoint / MODEL)
    if average is not None:
        average.copy_from_parameters()
        load_model(module, folder / MODEL)
    _set_optimizer_tensors(module, optimizer, load_file(folder / OPTIMIZER))


def load_random_state(checkpoint: Path) -> None:
    """Put every global generator back as it was saved: do this last, right before the next step."""
    folder = checkpoint / FOLDER
    set_random_state(load_file(folder / RNG), read_json(folder / STATE)["generators"])
