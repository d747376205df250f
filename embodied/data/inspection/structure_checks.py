"""Defects of episodes, clock, instructions, marks and statistics. Every check is a pure function."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE, SUCCESS

from embodied.data.cache import TIMESTAMP_TOLERANCE
from embodied.data.dataset import task_names
from embodied.data.inspection.recording import Finding, Recording, stretches

PLACEHOLDERS = {
    *("", "-", ".", "?", "x", "xx", "xxx", "a", "b", "abc", "asdf", "foo", "bar", "todo", "tbd", "fixme"),
    *("task", "my task", "a task", "task description", "single task", "no task", "default", "default task"),
    *("test", "testing", "none", "null", "nan", "n/a", "na", "unknown", "unnamed", "placeholder", "dummy"),
    *(
        "description",
        "instruction",
        "string",
        "text",
        "example",
        "lorem ipsum",
        "change me",
        "your task here",
    ),
}

TOO_SHORT, TOO_LONG = 0.2, 5.0
"""Of the median length of the episodes with the same instruction."""

STATISTICS = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}
STATISTICS_TOLERANCE = 0.01
"""Of a dimension's range."""


def episode_index(recording: Recording) -> Iterator[Finding]:
    """Episodes that are missing from the rows, come twice, or out of order."""
    found = [episode.index for episode in recording.episodes]
    expected = range(max(len(recording.rows), max(found) + 1))
    for index in sorted(set(expected) - set(found)):
        yield Finding(feature="episode_index", episode=index, message="no frame has this index")
    for before, index in pairwise(found):
        if index < before:
            yield Finding(
                feature="episode_index", episode=index, message=f"its frames come behind episode {before}'s"
            )


def episode_table(recording: Recording) -> Iterator[Finding]:
    """A table of episodes, or info.json, that tells of other frames than there are."""
    total, told = len(recording.columns["index"]), recording.metadata.total_frames
    if total != told:
        yield Finding(feature="index", message=f"info.json says {told} frames, there are {total}")
    if not np.array_equal(recording.columns["index"], np.arange(total)):
        yield Finding(feature="index", message="does not count the frames from 0 on")
    episodes = {episode.index: episode for episode in recording.episodes}
    for row in recording.rows:
        index, length = row["episode_index"], row["length"]
        episode = episodes.get(index)
        if episode is None:
            continue
        told_rows = (row["dataset_from_index"], row["dataset_to_index"])
        if told_rows != (episode.start, episode.stop):
            yield Finding(
                feature="episode_index",
                episode=index,
                message=f"meta/episodes says rows {told_rows[0]} to {told_rows[1]}, "
                f"they are {episode.start} to {episode.stop}",
            )
        elif length != episode.length:
            yield Finding(
                feature="length",
                episode=index,
                message=f"meta/episodes says {length} frames, there are {episode.length}",
            )


def frame_index(recording: Recording) -> Iterator[Finding]:
    """Frames that are not counted 0, 1, 2, ... within their episode."""
    for episode in recording.episodes:
        found = recording.columns["frame_index"][episode.start : episode.stop]
        for first, last in stretches(found != np.arange(episode.length)):
            yield Finding(
                feature="frame_index",
                episode=episode.index,
                frames=(first, last),
                message=f"is {found[first]} at frame {first}",
            )


def timestamp_order(recording: Recording) -> Iterator[Finding]:
    """A clock that stands still or runs backwards."""
    for episode in recording.episodes:
        steps = np.diff(recording.columns["timestamp"][episode.start : episode.stop])
        for first, last in stretches(~(steps > 0)):
            what = "repeats" if steps[first] == 0 else "goes back"
            yield Finding(
                feature="timestamp",
                episode=episode.index,
                frames=(first, last + 1),
                message=f"{what} after frame {first}",
            )


def dropped_frames(recording: Recording) -> Iterator[Finding]:
    """Gaps in the clock."""
    fps = recording.metadata.fps
    for episode in recording.episodes:
        steps = np.diff(recording.columns["timestamp"][episode.start : episode.stop]) * fps
        for frame in np.flatnonzero(steps > 1.5):
            yield Finding(
                feature="timestamp",
                episode=episode.index,
                frames=(int(frame), int(frame) + 1),
                message=f"{round(float(steps[frame])) - 1} frame(s) are missing after frame {frame}",
            )


def timestamp_off_grid(recording: Recording) -> Iterator[Finding]:
    """Times that are not frame / fps, by which LeRobot looks pictures up in films."""
    fps = recording.metadata.fps
    severity = "problem" if recording.metadata.video_keys else "note"
    for episode in recording.episodes:
        times = recording.columns["timestamp"][episode.start : episode.stop].astype(np.float64)
        steps = np.diff(times) * fps
        if ((steps <= 0) | (steps > 1.5)).any():
            continue  # reported as what it is
        errors = np.abs(times - np.arange(len(times)) / fps)
        wrong = errors > TIMESTAMP_TOLERANCE + np.spacing(times.astype(np.float32))
        first = int(np.argmax(wrong))
        if wrong[first]:
            yield Finding(
                severity=severity,
                feature="timestamp",
                episode=episode.index,
                frames=(first, episode.length - 1),
                message=f"is up to {1000 * errors.max():.3g} ms off frame / fps",
            )


def episode_length(recording: Recording) -> Iterator[Finding]:
    """Episodes far shorter or longer than the others of their instruction: false starts, forgotten stops."""
    groups = defaultdict(list)
    for episode in recording.episodes:
        groups[int(recording.columns["task_index"][episode.start])].append(episode)
    for group in groups.values():
        median = float(np.median([episode.length for episode in group]))
        for episode in group if len(group) >= 3 else ():
            if not TOO_SHORT * median <= episode.length <= TOO_LONG * median:
                yield Finding(
                    feature="length",
                    episode=episode.index,
                    message=f"has {episode.length} frames, the median of its instruction is {median:g}",
                )


def instruction(recording: Recording) -> Iterator[Finding]:
    """Instructions that are missing, empty or say nothing."""
    tasks = dict(enumerate(task_names(recording.metadata)))
    for episode in recording.episodes:
        for index in np.unique(recording.columns["task_index"][episode.start : episode.stop]):
            text = tasks.get(int(index))
            if text is None:
                message = f"task {index} is not in meta/tasks.parquet"
            elif text.strip(" .!\"'").lower() in PLACEHOLDERS:
                message = f"is {text!r}, which says nothing"
            else:
                continue
            yield Finding(feature="task", episode=episode.index, message=message)


def instruction_variants(recording: Recording) -> Iterator[Finding]:
    """Instructions that differ in case, spaces and full stops only count as different tasks."""
    variants = defaultdict(list)
    for text in task_names(recording.metadata):
        variants[" ".join(text.lower().strip(" .!").split())].append(text)
    for texts in variants.values():
        if len(texts) > 1:
            yield Finding(
                severity="note",
                feature="task",
                message=f"differ in writing only: {', '.join(map(repr, texts))}",
            )


def statistics(recording: Recording) -> Iterator[Finding]:
    """A stats.json that is missing, incomplete, or of other data."""
    stored = recording.metadata.stats
    if stored is None:
        yield Finding(feature="stats.json", message="is missing")
        return
    for key, values in recording.vectors.items():
        known = stored.get(key, {})
        if not STATISTICS.keys() <= known.keys():
            yield Finding(feature=key, message="stats.json has no min, max, mean and std of it")
            continue
        for place, name in enumerate(recording.names(key)):
            column = values[:, place].astype(np.float64)
            if not np.isfinite(column).all():
                continue
            told = {what: float(np.ravel(known[what])[place]) for what in STATISTICS}
            real = {what: float(compute(column)) for what, compute in STATISTICS.items()}
            tolerance = max(STATISTICS_TOLERANCE * np.ptp(column), 1e-5 * np.abs(column).max(), 1e-8)
            wrong = [what for what in STATISTICS if not abs(told[what] - real[what]) <= tolerance]
            if wrong:
                yield Finding(
                    feature=key,
                    dimension=name,
                    message=f"stats.json says {wrong[0]} {told[wrong[0]]:.4g}, it is {real[wrong[0]]:.4g}",
                )


def success_mark(recording: Recording) -> Iterator[Finding]:
    """Marks of success that contradict each other."""
    if SUCCESS not in recording.columns:
        return
    flags = recording.columns[SUCCESS].astype(bool)
    marks = {row["episode_index"]: row.get("success") for row in recording.rows}
    for episode in recording.episodes:
        mark, any_frame = marks.get(episode.index), bool(flags[episode.start : episode.stop].any())
        if mark is not None and bool(mark) != any_frame:
            yield Finding(
                feature=SUCCESS,
                episode=episode.index,
                message=f"is {any_frame}, but meta/episodes says success {bool(mark)}",
            )


def duplicate_episode(recording: Recording) -> Iterator[Finding]:
    """Episodes with the same states and actions as an earlier one."""
    keys = [key for key in (OBS_STATE, ACTION) if key in recording.vectors]
    seen: dict[bytes, int] = {}
    for episode in recording.episodes:
        digest = hashlib.sha256()
        for key in keys:
            digest.update(
                np.ascontiguousarray(recording.vectors[key][episode.start : episode.stop]).tobytes()
            )
        first = seen.setdefault(digest.digest(), episode.index)
        if first != episode.index:
            yield Finding(
                feature=keys[0] if keys else None,
                episode=episode.index,
                message=f"is the same recording as episode {first}",
            )
