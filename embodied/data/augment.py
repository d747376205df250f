"""Augmentations of pictures, for whole batches at once. B batch, T time, H, W picture size.

None is on by default: on tasks whose goal is a position in the picture, a random shift destroys what it
tells. Each sample draws its own change, the same one for all of its T frames, and each camera another;
processes that train together draw for the joint batch and take their own rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from lerobot.utils.constants import OBS_PREFIX
from torch import Generator, Tensor

from embodied.errors import UserError
from world_models.parallel import own_rows, place

MAX_SHIFT = 4
"""Pixels, as in DrQ (arXiv 2004.13649) at 84 px."""

COLOR_RANGE = 0.2
"""Brightness and contrast are scaled by up to this much more or less."""


def keep(images: Tensor, generator: Generator) -> Tensor:
    """The pictures as they are."""
    return images


def shift(images: Tensor, generator: Generator) -> Tensor:
    """Move (B, ..., 3, H, W) by up to MAX_SHIFT pixels in each direction; the border repeats."""
    batch, (height, width) = images.shape[0], images.shape[-2:]
    shape = (2, place()[1] * batch, 1)
    moves = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, shape, generator=generator)
    moves = own_rows(moves, dim=1).to(images.device)
    rows = (torch.arange(height, device=images.device) + moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + moves[1]).clamp(0, width - 1)
    samples = torch.arange(batch, device=images.device)[:, None, None]
    # Height and width first, the rest behind, so that one pair of indices serves every frame and channel.
    pixels = images.flatten(1, -3).movedim(1, -1)
    moved = pixels[samples, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1).view(images.shape)


def color(images: Tensor, generator: Generator) -> Tensor:
    """Scale brightness and contrast of (B, ..., 3, H, W), uint8 in [0, 255] or floating point in [0, 1]."""
    top = 1.0 if images.is_floating_point() else 255.0
    draws = torch.rand((2, place()[1] * images.shape[0]), generator=generator)
    factors = 1 + COLOR_RANGE * (2 * own_rows(draws, dim=1) - 1)
    brightness, contrast = factors.to(images.device).view(2, -1, *[1] * (images.dim() - 1))
    values = images.float()
    mean = values.mean(dim=(-3, -2, -1), keepdim=True)
    values = ((values - mean) * contrast + mean) * brightness
    return values.clamp(0, top).to(images.dtype)


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "none": keep,
    "shift": shift,
    "color": color,
}


def augment(batch: dict[str, Any], name: str, generator: Generator) -> dict[str, Any]:
    """The batch with every camera's pictures changed by one of AUGMENTATIONS.

    generator: on the CPU, whatever the device of the pictures.

    Raises:
        UserError: unknown name.
    """
    if name not in AUGMENTATIONS:
        raise UserError(f"--dataset.augmentation={name}: expected one of {', '.join(AUGMENTATIONS)}")
    change = AUGMENTATIONS[name]
    return {
        key: change(value, generator) if _is_picture(key, value) else value for key, value in batch.items()
    }


def _is_picture(key: str, value: Any) -> bool:
    return (
        key.startswith(OBS_PREFIX) and isinstance(value, Tensor) and value.dim() >= 4 and value.shape[-3] == 3
    )
