"""What latents tell about the scene: probes that read positions from them, against an untrained encoder.

Probes are fitted on some episodes of each task and scored on others. What an untrained encoder of the same
architecture yields to the same probes is the floor: much of a position survives random convolutions.
F frames, D features of a flattened latent, C coordinates.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from embodied.evaluation.diagnostics.measures import r_squared
from embodied.evaluation.diagnostics.model import Encode, WorldModelUnderTest, see
from embodied.evaluation.diagnostics.regression import REGRESSORS, Regressor
from embodied.evaluation.diagnostics.scenes import Stage, Watched, counted, watch

HELD_OUT = 4
"""One episode in so many is held out."""

STANDS_STILL = 0.05
"""A coordinate that varies by less than this share of its landmark's largest is not asked for."""

MOVERS = ("expert", "noisy")


def probe(
    regressor: Regressor,
    features: np.ndarray,
    targets: np.ndarray,
    episodes: np.ndarray,
    is_held_out: np.ndarray,
) -> list[float | None]:
    """R² per coordinate on the frames held out; None for one that hardly varies.

    features: (F, D); targets: (F, C); episodes: (F,); is_held_out: (F,) bool, whole episodes.
    """
    fit = ~is_held_out
    found = regressor(features[fit], targets[fit], episodes[fit], features[is_held_out])
    spread = np.minimum(targets[fit].std(0), targets[is_held_out].std(0))
    moves = spread > STANDS_STILL * max(spread.max(), 1e-6)
    scores = r_squared(targets[is_held_out], found)
    return [float(score) if moving else None for score, moving in zip(scores, moves, strict=True)]


def probe_scenes(
    world: WorldModelUnderTest, stages: Iterable[Stage], *, episodes: int, seed: int
) -> dict[str, Any]:
    """Watch experts, sober and noisy, in every task and probe what is seen.

    Returns `landmarks`: a list of `task`, `landmark`, `probe`, and R² per coordinate, `r2`, and of the
    `floor`; and `summary`, see `summarise_probes`.
    """
    untrained = world.untrained(seed)
    rows: list[dict[str, Any]] = []
    for stage in stages:
        watched = [
            watch(stage, seed + index, MOVERS[index % len(MOVERS)], world.chunk_steps)
            for index in counted(episodes, f"probes {stage.task}")
        ]
        rows += probe_task(stage.task, watched, {"r2": world.encode, "floor": untrained}, list(world.cameras))
    return {"landmarks": rows, "summary": summarise_probes(rows)}


def probe_task(
    task: str, watched: Sequence[Watched], encoders: dict[str, Encode], cameras: Sequence[str]
) -> list[dict[str, Any]]:
    """A row per landmark and probe; encoders: by the key under which a row holds their R²."""
    episode = np.concatenate([np.full(_length(one), index) for index, one in enumerate(watched)])
    # The movers take turns, so that held-out episodes come from both.
    is_held_out = np.isin(episode // len(MOVERS) % HELD_OUT, [HELD_OUT - 1])
    pictures = {name: np.concatenate([one.pictures[name] for one in watched]) for name in cameras}
    states = np.concatenate([one.states for one in watched])
    features = {key: see(encode, pictures, states).flatten(1).numpy() for key, encode in encoders.items()}
    rows = []
    for landmark in watched[0].landmarks:
        targets = np.concatenate([one.landmarks[landmark] for one in watched])
        for name, regressor in REGRESSORS.items():
            scores = {
                key: probe(regressor, values, targets, episode, is_held_out)
                for key, values in features.items()
            }
            rows.append({"task": task, "landmark": landmark, "probe": name, **scores})
    return rows


def _length(one: Watched) -> int:
    return len(next(iter(one.landmarks.values())))


def summarise_probes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per landmark and probe, R² over all coordinates and tasks: `r2`, `floor`, and `unexplained`.

    That last is (1 - r2) over (1 - floor): what is left to explain of what the floor leaves; None where no
    coordinate varies.
    """
    found = []
    for landmark, name in dict.fromkeys((row["landmark"], row["probe"]) for row in rows):
        own = [row for row in rows if (row["landmark"], row["probe"]) == (landmark, name)]
        means = {key: _mean(value for row in own for value in row[key]) for key in ("r2", "floor")}
        r2, floor = means["r2"], means["floor"]
        ratio = None if r2 is None or floor is None or floor >= 1 else (1 - r2) / (1 - floor)
        found.append({"landmark": landmark, "probe": name, **means, "unexplained": ratio})
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
