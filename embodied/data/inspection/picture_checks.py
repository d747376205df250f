"""Defects of pictures, in those that were looked at. Every check is a pure function of the recording."""

from collections.abc import Iterator

import numpy as np

from embodied.data.cache import picture_shape
from embodied.data.inspection.recording import Episode, Finding, PictureSample, Recording, stretches

BLANK = 8.0
"""Grey levels between the darkest and the brightest parts of a picture that shows anything."""

FROZEN_FRAMES = 8
ROBOT_MOVES = 0.1
"""Of a joint's range, while the pictures stay the same."""

SLOW, SLOW_MEANS_SOMETHING = 0.4, 20
"""Share of pictures that repeat the one before while the robot moves, and how many have to be known."""


def picture_size(recording: Recording) -> Iterator[Finding]:
    """Pictures of another size than info.json says."""
    for key, sample in recording.pictures.items():
        declared = picture_shape(recording.metadata.features[key])
        for shape, row in sample.shapes.items():
            if tuple(shape) != declared:
                episode = _episode_of(recording, row)
                yield Finding(
                    feature=key,
                    episode=episode.index,
                    frames=(row - episode.start, row - episode.start),
                    message=f"is {_size(shape)}, info.json says {_size(declared)}",
                )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _episode_of(recording: Recording, row: int) -> Episode:
    return next(episode for episode in recording.episodes if row < episode.stop)


def unreadable_picture(recording: Recording) -> Iterator[Finding]:
    """Pictures that cannot be decoded."""
    for key, sample in recording.pictures.items():
        for first, last, reason in sample.unreadable:
            for episode in recording.episodes:
                start, stop = max(first, episode.start), min(last + 1, episode.stop)
                if start < stop:
                    yield Finding(
                        feature=key,
                        episode=episode.index,
                        frames=(start - episode.start, stop - 1 - episode.start),
                        message=f"cannot be decoded: {reason}",
                    )


def short_film(recording: Recording) -> Iterator[Finding]:
    """Films that end before their last row."""
    for key, sample in recording.pictures.items():
        for index, needed, found in sample.short_films:
            yield Finding(
                feature=key,
                episode=index,
                message=f"its film ends at {found:.2f} s, its last frame is at {needed:.2f} s",
            )


def film_rate(recording: Recording) -> Iterator[Finding]:
    """Films of another frame rate than the rows."""
    fps = recording.metadata.fps
    for key, sample in recording.pictures.items():
        for rate, index in sample.rates.items():
            if abs(rate - fps) > 0.01 * fps:
                yield Finding(
                    feature=key, episode=index, message=f"its film has {rate:g} frames/s, the rows {fps:g}"
                )


def blank_picture(recording: Recording) -> Iterator[Finding]:
    """Pictures of a single colour: a covered lens, a camera that did not start."""
    for key, sample in recording.pictures.items():
        for episode, here in _by_episode(recording, sample):
            frames = sample.rows[here] - episode.start
            for first, last in stretches(sample.spread[here] < BLANK):
                yield Finding(
                    feature=key,
                    episode=episode.index,
                    frames=(int(frames[first]), int(frames[last])),
                    message="shows a single colour",
                )


def frozen_camera(recording: Recording) -> Iterator[Finding]:
    """The same picture over and over while the robot moves."""
    for key, sample in recording.pictures.items():
        for episode, here in _by_episode(recording, sample):
            for first, last in stretches(sample.repeats[here] > 0, FROZEN_FRAMES - 1):
                start, stop = int(sample.rows[here[first]]) - 1, int(sample.rows[here[last]])
                if np.ptp(recording.motion[start : stop + 1], axis=0).max() > ROBOT_MOVES:
                    yield Finding(
                        feature=key,
                        episode=episode.index,
                        frames=(start - episode.start, stop - episode.start),
                        message=f"shows the same picture {stop - start + 1} times while the robot moves",
                    )


def slow_camera(recording: Recording) -> Iterator[Finding]:
    """A camera with fewer pictures per second than the rows: each comes several times."""
    steps = np.abs(np.diff(recording.motion, axis=0, prepend=recording.motion[:1])).max(axis=1)
    for key, sample in recording.pictures.items():
        moved = (sample.repeats >= 0) & (steps[sample.rows] > ROBOT_MOVES / FROZEN_FRAMES)
        repeats = sample.repeats[moved]
        if len(repeats) < SLOW_MEANS_SOMETHING or repeats.max() >= FROZEN_FRAMES - 1:
            continue
        share = (repeats > 0).mean()
        if share > SLOW:
            yield Finding(
                severity="note",
                feature=key,
                message=f"repeats the picture before in {share:.0%} of the frames in which the robot moves",
            )


def _by_episode(recording: Recording, sample: PictureSample) -> Iterator[tuple[Episode, np.ndarray]]:
    """Each episode with the places of its pictures in the sample, one item per run of consecutive frames."""
    for episode in recording.episodes:
        here = np.arange(*np.searchsorted(sample.rows, [episode.start, episode.stop]))
        for part in np.split(here, np.flatnonzero(np.diff(sample.rows[here]) > 1) + 1):
            if len(part):
                yield episode, part
