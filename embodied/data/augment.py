"""Augmentations of pictures, for whole batches at once. B batch, T time, H, W picture size.

None is on by default: where the goal is a position in the picture, a random shift makes what it tells less
exact, which is worth it where there are few scenes to learn from. Each sample draws its own change, the same
one for all of its T frames, and each camera another; processes that train together draw for the joint batch
and take their own rows.
"""

import math
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

LIGHT_RANGE = 0.5
"""Each of red, green and blue is scaled by up to this much more or less."""

MAX_TURN, MAX_ZOOM, MAX_MOVE = math.radians(20.0), 0.1, 0.1
"""A picture is turned, scaled and moved, the last as a share of its size, by at most this much."""


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
    draws = torch.rand((2, place()[1] * images.shape[0]), generator=generator)
    factors = 1 + COLOR_RANGE * (2 * own_rows(draws, dim=1) - 1)
    brightness, contrast = factors.to(images.device).view(2, -1, *[1] * (images.dim() - 1))
    values = images.float()
    mean = values.mean(dim=(-3, -2, -1), keepdim=True)
    values = ((values - mean) * contrast + mean) * brightness
    return _as_before(values, images)


def light(images: Tensor, generator: Generator) -> Tensor:
    """Scale each channel of (B, ..., 3, H, W) by itself, as a lamp of another color and strength does."""
    draws = 2 * torch.rand((place()[1] * images.shape[0], 3), generator=generator) - 1
    gains = 1 + LIGHT_RANGE * own_rows(draws).to(images.device)
    gains = gains.view(images.shape[0], *[1] * (images.dim() - 4), 3, 1, 1)
    return _as_before(images.float() * gains, images)


def view(images: Tensor, generator: Generator) -> Tensor:
    """Turn, scale and move (B, ..., 3, H, W), as if the camera had been put elsewhere; the border repeats."""
    draws = 2 * torch.rand((place()[1] * images.shape[0], 4), generator=generator) - 1
    turn, zoom, *move = own_rows(draws).unbind(1)
    angle, scale = MAX_TURN * turn, 1 + MAX_ZOOM * zoom
    sine, cosine = scale * angle.sin(), scale * angle.cos()
    moves = [2 * MAX_MOVE * way for way in move]  # pictures reach from -1 to 1
    rows = [torch.stack(row, 1) for row in ((cosine, -sine, moves[0]), (sine, cosine, moves[1]))]
    merged = images.flatten(1, -3).float()
    size = [*merged.shape]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1).to(images.device), size, align_corners=False)
    seen = torch.nn.functional.grid_sample(merged, grid, padding_mode="border", align_corners=False)
    return _as_before(seen.view(images.shape), images)


def _as_before(values: Tensor, images: Tensor) -> Tensor:
    """Return values (B, ..., 3, H, W) as the pictures `images` come: their range, type and layout."""
    values = values.clamp(0, 1) if images.is_floating_point() else values.round().clamp(0, 255)
    return torch.empty_like(images).copy_(values)


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "none": keep,
    "shift": shift,
    "color": color,
    "light": light,
    "view": view,
}


def parse_augmentations(names: str) -> list[str]:
    """Return the names of AUGMENTATIONS in `names`, which commas separate; they act one after the other.

    Raises:
        UserError: unknown name.
    """
    found = names.split(",")
    if not set(found) <= set(AUGMENTATIONS):
        known = ", ".join(AUGMENTATIONS)
        raise UserError(
            f"--dataset.augmentation={names}: expected one of {known}, or several with commas between"
        )
    return found


def augment(batch: dict[str, Any], names: str, generator: Generator) -> dict[str, Any]:
    """The batch with every camera's pictures changed by AUGMENTATIONS, see `parse_augmentations`.

    generator: on the CPU, whatever the device of the pictures.

    Raises:
        UserError: unknown name.
    """
    changed = dict(batch)
    for name in parse_augmentations(names):
        for key in [key for key, value in changed.items() if _is_picture(key, value)]:
            changed[key] = AUGMENTATIONS[name](changed[key], generator)
    return changed


def _is_picture(key: str, value: Any) -> bool:
    return (
        key.startswith(OBS_PREFIX) and isinstance(value, Tensor) and value.dim() >= 4 and value.shape[-3] == 3
    )
