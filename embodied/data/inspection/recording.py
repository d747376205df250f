"""What the checks look at, and what they answer with. N frames, E episodes, D dimensions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, OBS_STATE

from policies.latent_vla.relative_actions import dimension_names

GRIPPERS = ("gripper", "finger", "jaw", "claw", "hand_opening")
"""Parts of the names of joints that may rest, snap and press as they like."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about the data that a person should know before training.

    kind: of the check; severity: `problem`, or `note` for what may well be meant; frames: first and last
    frame, counted within the episode.
    """

    message: str
    severity: str = "problem"
    kind: str = ""
    feature: str | None = None
    dimension: str | None = None
    episode: int | None = None
    frames: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Consecutive rows start to stop of one episode."""

    index: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class PictureSample:
    """What was seen in the pictures of one camera that were looked at.

    rows: (P,) their frames in the data set, in order; spread: (P,) how far the dark and the bright parts of
    each are apart, in grey levels; repeats: (P,) how many pictures just before it are the same, -1 where the
    one before was not looked at; shapes: distinct (height, width, channels) with the first row of each;
    unreadable: first row, last row and reason for each stretch that could not be decoded; short_films:
    episode, seconds needed and seconds there are; rates: distinct frame rates of films, with an episode.
    """

    rows: np.ndarray
    spread: np.ndarray
    repeats: np.ndarray
    shapes: Mapping[tuple[int, ...], int] = field(default_factory=dict)
    unreadable: list[tuple[int, int, str]] = field(default_factory=list)
    short_films: list[tuple[int, float, float]] = field(default_factory=list)
    rates: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A data set as it is, defects and all.

    rows: LeRobot's table of episodes; columns: of numbers and text, (N, ...); pictures: per colour camera.
    """

    metadata: LeRobotDatasetMetadata
    rows: list[dict[str, Any]]
    columns: Mapping[str, np.ndarray]
    pictures: Mapping[str, PictureSample] = field(default_factory=dict)

    @cached_property
    def episodes(self) -> list[Episode]:
        """Stretches of rows with the same `episode_index`, in their order."""
        indices = self.columns["episode_index"]
        starts = [0, *(np.flatnonzero(np.diff(indices)) + 1).tolist()]
        stops = [*starts[1:], len(indices)]
        return [
            Episode(index=int(indices[start]), start=start, stop=stop)
            for start, stop in zip(starts, stops, strict=True)
        ]

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """Every feature of real numbers but the clock, (N, D)."""
        return {
            key: column.reshape(len(column), -1)
            for key, column in self.columns.items()
            if key != "timestamp" and np.issubdtype(column.dtype, np.floating)
        }

    def names(self, key: str) -> list[str]:
        """Names of the dimensions of a vector, their numbers where it has none."""
        size = self.vectors[key].shape[1]
        names = dimension_names(self.metadata.features[key]) or []
        return names if len(names) == size else [str(number) for number in range(size)]

    @cached_property
    def pairs(self) -> list[tuple[str, int, int]]:
        """(name, action dimension, state dimension) of joints commanded by position.

        That is those of the same name, and those of the same place where neither vector has names.
        """
        if ACTION not in self.vectors or OBS_STATE not in self.vectors:
            return []
        actions, states = self.names(ACTION), self.names(OBS_STATE)
        named = [bool(dimension_names(self.metadata.features[key])) for key in (ACTION, OBS_STATE)]
        if any(named) != all(named) or (not any(named) and len(actions) != len(states)):
            return []
        return [(name, place, states.index(name)) for place, name in enumerate(actions) if name in states]

    def dimensions(self, key: str) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values (N,) of each dimension of a vector."""
        values = self.vectors[key]
        yield from ((name, values[:, place]) for place, name in enumerate(self.names(key)))

    @cached_property
    def motion(self) -> np.ndarray:
        """(N, D) of the state, or of the action without one, in units of each dimension's range."""
        key = OBS_STATE if OBS_STATE in self.vectors else ACTION
        if key not in self.vectors:
            return np.zeros((len(self.columns["index"]), 1))
        values = np.nan_to_num(self.vectors[key], nan=0.0, posinf=0.0, neginf=0.0)
        spread = np.ptp(values, axis=0)
        return values / np.where(spread > 0, spread, np.inf)


def is_gripper(name: str) -> bool:
    """Whether a dimension's name tells of something that grips."""
    return any(part in name.lower() for part in GRIPPERS)


def stretches(mask: np.ndarray, at_least: int = 1) -> list[tuple[int, int]]:
    """First and last index of each run of True that is long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2) if b - a >= at_least]
