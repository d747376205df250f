"""An episode beside what was expected of it, as pictures: every column or film frame is one moment.

L looks, V cameras, H, W picture size, K latent tokens, D width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from embodied.imagining.decisions import Decision, Scenes
from world_models.decoder import FrameDecoder

Rows = dict[str, list[np.ndarray | None]]
"""By what is shown a picture (H, V * W, 3) uint8 for each look, None where there is none."""

GAP, TEXT = 4, 12
LINE = TEXT + 2 * GAP
BACKGROUND, MISSING, INK = "white", (225, 225, 225), "black"
COLUMNS = 8


def picture_rows(
    decoder: FrameDecoder, decisions: Sequence[Decision], expected: Mapping[str, Scenes]
) -> Rows:
    """What the cameras saw, what the decoder draws of its latents, and of the latents that were expected."""
    seen: Scenes = [decision.latents for decision in decisions]
    rows: Rows = {"real": [_abreast(decision.pictures) for decision in decisions]}
    for name, scenes in {"real, decoded": seen, **expected}.items():
        rows[name] = [None if scene is None else _decoded(decoder, scene) for scene in scenes]
    return rows


def _decoded(decoder: FrameDecoder, scene: Tensor) -> np.ndarray:
    frames = decoder.decode(scene.unsqueeze(0))[0]
    return _abreast((frames * 255).round().to(torch.uint8).movedim(1, -1).numpy())


def _abreast(pictures: np.ndarray) -> np.ndarray:
    """Cameras (V, H, W, 3) side by side, (H, V * W, 3)."""
    return np.concatenate(list(pictures), axis=1)


def moments_strip(rows: Rows, steps: Sequence[int]) -> Image.Image:
    """A row for each source, a column for each of at most COLUMNS looks; steps: at which each look was."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(COLUMNS, len(steps))).round().astype(int))
    height, width = _size(rows)
    sheet = Image.new(
        "RGB", (len(chosen) * (width + GAP) - GAP, LINE + len(rows) * (LINE + height)), BACKGROUND
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=TEXT)
    for column, look in enumerate(chosen):
        left = column * (width + GAP)
        draw.text((left, GAP), f"step {steps[look]}", fill=INK, font=font)
        for row, (name, pictures) in enumerate(rows.items()):
            top = LINE + row * (LINE + height)
            if column == 0:
                draw.text((0, top + GAP), name, fill=INK, font=font)
            _put(sheet, pictures[look], (left, top + LINE), (width, height))
    return sheet


def moments_film(rows: Rows) -> list[np.ndarray]:
    """A frame for each look, its sources two abreast under their names: L pictures of even sides."""
    height, width = _size(rows)
    font = ImageFont.load_default(size=TEXT)
    lines = -(-len(rows) // 2)
    size = (2 * width + GAP, lines * (LINE + height))
    frames = []
    for look in range(len(rows["real"])):
        sheet = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), BACKGROUND)
        for place, (name, pictures) in enumerate(rows.items()):
            left, top = place % 2 * (width + GAP), place // 2 * (LINE + height)
            ImageDraw.Draw(sheet).text((left + GAP, top + GAP), name, fill=INK, font=font)
            _put(sheet, pictures[look], (left, top + LINE), (width, height))
        frames.append(np.asarray(sheet))
    return frames


def _size(rows: Rows) -> tuple[int, int]:
    """Height and width of the pictures."""
    first = rows["real"][0]
    assert first is not None
    return first.shape[0], first.shape[1]


def _put(
    sheet: Image.Image, picture: np.ndarray | None, place: tuple[int, int], size: tuple[int, int]
) -> None:
    shown = Image.new("RGB", size, MISSING) if picture is None else Image.fromarray(picture)
    sheet.paste(shown, place)
