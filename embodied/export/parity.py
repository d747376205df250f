"""Whether an exported policy decides as its checkpoint does, and how fast both are.

Both see the same looks of recorded episodes in turn, with the same noise, each with the past that it has
itself left behind. N looks, H chunk steps, A action size, P steps left of a chunk.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from embodied.data.cache import FrameCache
from embodied.data.windows import gather_windows
from embodied.errors import UserError
from embodied.evaluation.statistics import percentiles_ms
from embodied.serving.runner import Request, check_request
from embodied.serving.sessions import Decider, Outcome, Past, draw_noise
from embodied.serving.specification import Specification

LOOKS_PER_EPISODE = 10
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class Parity:
    """looks: how many; error: largest absolute difference of normalised actions; *_ms: p50 and p95."""

    looks: int
    error: float
    exported_ms: dict[str, float | None]
    checkpoint_ms: dict[str, float | None]


def recorded_looks(cache: FrameCache, specification: Specification, count: int, seed: int) -> list[Request]:
    """Up to `count` looks, `n_action_steps` apart, at episodes in an order of chance, from their beginnings.

    Where the policy can continue a chunk, every other look comes with a prefix: the recorded actions. Raises
    UserError for a data set whose cameras or state are not the policy's.
    """
    for camera in specification.cameras:
        if f"{OBS_IMAGES}.{camera}" not in cache.images:
            have = ", ".join(key.removeprefix(f"{OBS_IMAGES}.") for key in cache.images)
            raise UserError(f"--dataset.root={cache.root}: has no camera {camera}, only {have}")
    starts = np.unique(cache.first[cache.frames])
    np.random.default_rng(seed).shuffle(starts)
    stride, horizon = specification.n_action_steps, specification.chunk_size
    chosen = [range(start, cache.last[start] + 1, stride)[:LOOKS_PER_EPISODE] for start in starts]
    frames = np.array([frame for episode in chosen for frame in episode][:count])
    windows: dict[str, Any] = gather_windows(cache, frames, {ACTION: list(range(horizon))})
    pictures = {
        camera: windows[f"{OBS_IMAGES}.{camera}"].movedim(-3, -1).numpy() for camera in specification.cameras
    }
    looks = []
    for row, frame in enumerate(frames):
        look = Request(
            session="",
            images={camera: np.ascontiguousarray(picture[row]) for camera, picture in pictures.items()},
            state=windows[OBS_STATE][row].numpy().astype(np.float32),
            task=windows["task"][row],
            reset=frame == cache.first[frame],
        )
        if specification.rtc and row % 2:
            left = 1 + row % horizon
            look = replace(look, prefix=windows[ACTION][row, :left].numpy(), delay=left // 2)
        looks.append(look)
    check_request(looks[0], specification)
    return looks


def compare(mode: str, exported: Decider, checkpoint: Decider, looks: Sequence[Request], seed: int) -> Parity:
    """Let both decide at every look, in turn, so that whatever else the machine does slows both."""
    deciders = (exported, checkpoint)
    for decider in deciders:
        for _ in range(WARM_UP):
            _timed(decider, mode, looks[0], seed, None)
    pasts: list[Past | None] = [None, None]
    seconds: tuple[list[float], list[float]] = [], []
    error = 0.0
    for number, look in enumerate(looks):
        chunks = []
        for side, decider in enumerate(deciders):
            past = None if look.reset else pasts[side]
            outcome, taken = _timed(decider, mode, look, seed + number, past)
            pasts[side] = outcome.past[0]
            seconds[side].append(taken)
            chunks.append(outcome.normalized)
        error = np.maximum(error, np.abs(chunks[0] - chunks[1]).max())  # NaN stays
    return Parity(
        looks=len(looks),
        error=float(error),
        exported_ms=percentiles_ms(seconds[0]),
        checkpoint_ms=percentiles_ms(seconds[1]),
    )


def _timed(decider: Decider, mode: str, look: Request, seed: int, past: Past | None) -> tuple[Outcome, float]:
    noise = draw_noise(decider.noise_shape(mode), seed, 0)[None]
    started = time.perf_counter()
    outcome = decider.decide(mode, [look], noise, [past])
    return outcome, time.perf_counter() - started
