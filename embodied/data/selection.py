"""Which episodes of a data set are used, and whether their numbers can be.

Columns are those of `read_columns`. N frames, E episodes.
"""

from collections.abc import Mapping

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_PREFIX, REWARD, SUCCESS

from embodied.data.dataset import episode_rows
from embodied.errors import UserError
from policies.latent_vla.relative_actions import dimension_names

Columns = Mapping[str, np.ndarray]


def select_episodes(num_episodes: int, episodes: list[int] | None) -> np.ndarray:
    """The chosen episode indices, every one if None.

    Raises:
        UserError: none chosen, or one that the data set does not have.
    """
    if episodes is None:
        return np.arange(num_episodes)
    unknown = [episode for episode in episodes if not 0 <= episode < num_episodes]
    if unknown or not episodes:
        wrong = unknown[0] if unknown else episodes
        raise UserError(f"--dataset.episodes: {wrong}, expected some of 0 to {num_episodes - 1}")
    return np.unique(episodes)


def select_successes(
    metadata: LeRobotDatasetMetadata, columns: Columns, episodes: list[int] | None
) -> np.ndarray:
    """The successful ones among the chosen episodes.

    Raises:
        UserError: the data set does not mark successes, or nothing is left.
    """
    successes = _successes(metadata, columns)
    if successes is None:
        raise UserError(
            f"--dataset.success_only=true: {metadata.root} marks no success, "
            f"expected `success` in its episode table or a column {SUCCESS}"
        )
    chosen = select_episodes(len(successes), episodes)
    left = chosen[successes[chosen]]
    if not len(left):
        of = "" if episodes is None else f" of --dataset.episodes={episodes}"
        raise UserError(f"--dataset.success_only=true: no episode{of} is a success, expected at least one")
    return left


def _successes(metadata: LeRobotDatasetMetadata, columns: Columns) -> np.ndarray | None:
    """Success of each episode, (E,) bool: the episode table's mark, else any frame's; None if untold."""
    marks = [row.get("success") for row in episode_rows(metadata)]
    if all(mark is not None for mark in marks):
        return np.array(marks, bool)
    if SUCCESS not in columns:
        return None
    successful = columns["episode_index"][columns[SUCCESS].astype(bool)]
    return np.isin(np.arange(len(marks)), successful)


def steps_to_success(metadata: LeRobotDatasetMetadata, columns: Columns) -> np.ndarray:
    """Steps from each frame to its episode's first success, (N,) float32; at most 0 from then on.

    Infinite in failed episodes, NaN where success is not marked; where only the episode table marks it, it
    comes with the last frame.
    """
    episode = columns["episode_index"]
    successes = _successes(metadata, columns)
    if successes is None:
        return np.full(len(episode), np.nan, np.float32)
    frame = np.arange(len(episode))
    last = np.flatnonzero(np.append(np.diff(episode) != 0, True))
    first_success = np.full(len(successes), len(episode))
    first_success[episode[last]] = last
    if SUCCESS in columns:
        np.minimum.at(first_success, episode, np.where(columns[SUCCESS].astype(bool), frame, len(episode)))
    steps = (first_success[episode] + 1 - frame).astype(np.float32)
    steps[~successes[episode]] = np.inf
    return steps


def frames_of(columns: Columns, episodes: np.ndarray) -> np.ndarray:
    """Indices of the frames of the chosen episodes."""
    return np.flatnonzero(np.isin(columns["episode_index"], episodes))


def number_keys(columns: Columns) -> list[str]:
    """Real numbers that a policy may read, write or learn to foresee."""
    return [
        key
        for key, column in columns.items()
        if key.startswith((OBS_PREFIX, ACTION, REWARD)) and np.issubdtype(column.dtype, np.floating)
    ]


def check_finite(metadata: LeRobotDatasetMetadata, columns: Columns, frames: np.ndarray) -> None:
    """Refuse NaN and infinite numbers in observations and actions.

    Raises:
        UserError: the first one, with its feature, dimension, episode and frame.
    """
    for key in number_keys(columns):
        values = columns[key][frames].reshape(len(frames), -1)
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            row, dimension = wrong[0]
            name = (dimension_names(metadata.features[key]) or range(values.shape[1]))[dimension]
            episode = columns["episode_index"][frames[row]]
            frame = columns["frame_index"][frames[row]]
            raise UserError(
                f"--dataset.root={metadata.root}: {key} {name} is {values[row, dimension]} in episode "
                f"{episode}, frame {frame}: expected finite numbers, or --dataset.episodes without it"
            )
