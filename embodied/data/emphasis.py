"""Emphasis: which frames of a data set the pictures decide.

Most of a demonstration goes on as the robot's own pose and the instruction let expect; a policy that looks at
nothing does well on these frames, and learns to look from the others alone. How much of a frame's next
actions does not follow from state and instruction is its weight here: the squared error of a regression on
random features (Rahimi and Recht 2007) of them, fitted on the other half of the episodes.

N frames, F features, S state size, A action size.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from embodied.data.cache import FrameCache
from embodied.errors import UserError

FEATURES = 300
KINDS = 256
"""Instructions that are told apart; of more, several share a feature."""

RIDGE = 1e-4
LEAST = 1e-12
"""Weight of a frame that is explained altogether, so that any data set can be drawn from."""

AT_ONCE = 2**15
"""Frames, which bounds the memory that features take."""


def emphasise(
    cache: FrameCache,
    frames: np.ndarray,
    delta_indices: Mapping[str, Sequence[int]],
    probabilities: np.ndarray,
    share: float,
) -> np.ndarray:
    """The probabilities (N,) of frames, but a share of them by what the pictures decide.

    delta_indices: offsets of the windows that are drawn. UserError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UserError(f"--dataset.emphasis={share}: expected 0 to 1")
    if not share:
        return probabilities
    ahead = max(delta_indices.get(ACTION, [0]))
    by_pictures = probabilities * unexplained(cache, frames, ahead)
    return (1 - share) * probabilities + share * by_pictures / by_pictures.sum()


def unexplained(cache: FrameCache, frames: np.ndarray, ahead: int) -> np.ndarray:
    """How much of the action `ahead` frames later is unexplained by state and instruction, mean 1: (N,).

    Takes and raises what `left_open` does.
    """
    error = np.square(left_open(cache, frames, ahead)[0]).mean(axis=1) + LEAST
    return error / error.mean()


def left_open(
    cache: FrameCache, frames: np.ndarray, ahead: int, penalties: Sequence[float] = (RIDGE,)
) -> tuple[np.ndarray, np.ndarray]:
    """What of the action `ahead` frames later does not follow from state and instruction: (N, A).

    frames: (N,) indices; an action beyond an episode's end is its last one; penalties: of the regression, per
    frame, of which the one that leaves least is taken. Counted in the standard deviations (A,) that are
    returned as well. Raises UserError for a data set without states.
    """
    if OBS_STATE not in cache.columns:
        raise UserError(
            f"--dataset.root={cache.root}: has no {OBS_STATE}: expected one, to tell what follows from it"
        )
    later = np.minimum(frames + ahead, cache.last[frames])
    (inputs, _), (wanted, deviation) = (
        _standardised(cache.columns[key][rows].reshape(len(frames), -1))
        for key, rows in ((OBS_STATE, frames), (ACTION, later))
    )
    tasks = np.unique(cache.columns["task_index"][frames], return_inverse=True)[1] % KINDS
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(inputs.shape[1], FEATURES))
    phases = rng.uniform(0, 2 * np.pi, FEATURES)

    def features(rows: np.ndarray) -> np.ndarray:
        waves = np.cos(inputs[rows] @ directions + phases)
        return np.concatenate([waves, inputs[rows], np.eye(tasks.max() + 1)[tasks[rows]]], axis=1)

    rest = np.empty((len(penalties), *wanted.shape))
    is_even = cache.columns["episode_index"][frames] % 2 == 0
    for half in (is_even, ~is_even):
        others = half if half.all() else ~half  # a single episode has to do for itself
        if not half.any():
            continue
        weights = _ridge(features, wanted, np.flatnonzero(others), np.array(penalties))
        for rows in _parts(np.flatnonzero(half)):
            rest[:, rows] = wanted[rows] - features(rows) @ weights
    return rest[np.square(rest).sum(axis=(1, 2)).argmin()], deviation


def _standardised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0 and deviation 1, and what their deviation was."""
    values = values.astype(np.float64)
    deviation = values.std(axis=0) + 1e-6
    return (values - values.mean(axis=0)) / deviation, deviation


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]


def _ridge(
    features: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray, rows: np.ndarray, penalties: np.ndarray
) -> np.ndarray:
    """Coefficients of the rows' wanted actions, (F, A) for each of the penalties."""
    squares, products = np.zeros(()), np.zeros(())
    for part in _parts(rows):
        known = features(part)
        squares, products = squares + known.T @ known, products + known.T @ wanted[part]
    return np.linalg.solve(squares + penalties[:, None, None] * len(rows) * np.eye(len(squares)), products)
