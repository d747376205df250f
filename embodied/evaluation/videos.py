"""Pictures of episodes: films and filmstrips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lerobot.utils.io_utils import write_video
from PIL import Image, ImageDraw, ImageFont

from embodied.rollout import RECORDED_FPS, EpisodeResult

MARGIN = 4
TEXT_SIZE = 14
TEXT_HEIGHT = TEXT_SIZE + 2 * MARGIN


def filmstrip(frames: Sequence[np.ndarray] | np.ndarray, columns: int = 8, caption: str = "") -> Image.Image:
    """Lay `columns` frames, evenly spaced from the first to the last, side by side over a line of text.

    frames: (F, H, W, 3) uint8, F >= 1. Repeats frames if there are fewer than `columns`.
    """
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    height, width = frames[0].shape[:2]
    text_height = TEXT_HEIGHT if caption else 0
    strip = Image.new("RGB", (columns * (width + MARGIN) - MARGIN, height + text_height), "white")
    for column, index in enumerate(chosen):
        strip.paste(Image.fromarray(frames[index]), (column * (width + MARGIN), 0))
    if caption:
        font = ImageFont.load_default(size=TEXT_SIZE)
        ImageDraw.Draw(strip).text((MARGIN, height + MARGIN), caption, fill="black", font=font)
    return strip


def save_recordings(results: Sequence[EpisodeResult], folder: Path) -> list[Path]:
    """Write a film (mp4) and a filmstrip (png) of every recorded episode; return the paths of the films."""
    films = []
    for result in results:
        if result.frames is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        outcome = "success" if result.success else "failure"
        film = folder / f"{result.episode.task}_{result.episode.seed}_{outcome}.mp4"
        write_video(film, list(result.frames), RECORDED_FPS)
        filmstrip(result.frames, caption=f"{result.instruction} ({outcome})").save(film.with_suffix(".png"))
        films.append(film)
    return films
