"""`embodied inspect DATASET`: what is in a LeRobotDataset and what is wrong with it, before anyone trains."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from lerobot.datasets import LeRobotDatasetMetadata

from embodied.config import InspectConfig
from embodied.data.cache import picture_shape, read_columns
from embodied.data.dataset import episode_rows, open_metadata, task_names
from embodied.data.inspection.printout import format_result
from embodied.data.inspection.recording import PictureSample, Recording
from embodied.data.inspection.sampling import sample_pictures
from embodied.data.inspection.table import find
from embodied.data.subgoals import read_stages
from embodied.errors import UserError


def inspect_dataset(config: InspectConfig) -> dict[str, Any]:
    """Look through a data set, print a summary and the findings, and return both as JSON values.

    Numbers are checked in full, pictures in a sample unless `all_frames`. Keys: `ok` (no problems),
    `dataset`, `episodes`, `features`, `cameras`, `language`, `findings`, `problems`, `notes`. Nothing is
    written.
    Raises UserError for a data set of which a part is missing or cannot be read.
    """
    metadata = open_metadata(config.dataset.root)
    rows = episode_rows(metadata)
    _require_data_files(metadata, rows)
    columns = read_columns(metadata)
    bare = Recording(metadata=metadata, rows=rows, columns=columns)
    pictures = sample_pictures(
        metadata, rows, columns["timestamp"], bare.episodes, all_frames=config.all_frames
    )
    recording = Recording(metadata=metadata, rows=rows, columns=columns, pictures=pictures)
    findings = [asdict(finding) for finding in find(recording)]
    problems = sum(finding["severity"] == "problem" for finding in findings)
    result = {
        "ok": problems == 0,
        "dataset": _describe_dataset(metadata, len(columns["index"])),
        "episodes": _describe_episodes(recording),
        "features": _describe_features(recording),
        "cameras": {key: _describe_camera(recording, key, sample) for key, sample in pictures.items()},
        "language": _describe_language(recording),
        "problems": problems,
        "notes": len(findings) - problems,
        "findings": findings,
    }
    print(format_result(result))
    return result


def _require_data_files(metadata: LeRobotDatasetMetadata, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        path = metadata.root / metadata.data_path.format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        if not path.is_file():
            raise UserError(f"{path}: is missing, expected the rows of episode {row['episode_index']}")


def _describe_dataset(metadata: LeRobotDatasetMetadata, frames: int) -> dict[str, Any]:
    return {
        "root": str(metadata.root),
        "robot": metadata.robot_type,
        "version": metadata.info.codebase_version,
        "fps": metadata.fps,
        "frames": frames,
    }


def _describe_episodes(recording: Recording) -> dict[str, Any]:
    lengths = [episode.length for episode in recording.episodes]
    marks = [row.get("success") for row in recording.rows]
    return {
        "count": len(lengths),
        "lengths": lengths,
        "shortest": min(lengths),
        "median": float(np.median(lengths)),
        "longest": max(lengths),
        "successes": None if None in marks else sum(map(bool, marks)),
    }


def _describe_features(recording: Recording) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for key, feature in recording.metadata.features.items():
        described[key] = {"dtype": feature["dtype"], "shape": list(feature["shape"])}
        if key in recording.vectors:
            described[key]["dimensions"] = [
                {"name": name, **_ranges(values)} for name, values in recording.dimensions(key)
            ]
    return described


def _ranges(values: np.ndarray) -> dict[str, float | None]:
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return dict.fromkeys(("min", "q01", "median", "q99", "max", "mean", "std"))
    quantiles = np.quantile(finite, [0.0, 0.01, 0.5, 0.99, 1.0])
    numbers = dict(zip(("min", "q01", "median", "q99", "max"), quantiles.tolist(), strict=True))
    return {**numbers, "mean": float(finite.mean()), "std": float(finite.std())}


def _describe_camera(recording: Recording, key: str, sample: PictureSample) -> dict[str, Any]:
    feature = recording.metadata.features[key]
    height, width, _ = picture_shape(feature)
    return {
        "stored_as": feature["dtype"],
        "height": height,
        "width": width,
        "pictures_looked_at": len(sample.rows),
        "pictures": len(recording.columns["index"]),
    }


def _describe_language(recording: Recording) -> dict[str, Any]:
    names = dict(enumerate(task_names(recording.metadata)))
    tasks = Counter(
        names.get(int(recording.columns["task_index"][episode.start]), "") for episode in recording.episodes
    )
    return {"tasks": dict(tasks.most_common()), "subtasks": _subtasks(recording)}


def _subtasks(recording: Recording) -> dict[str, int]:
    """In how many episodes each sub-goal of the persistent language column is pursued."""
    stages = read_stages(recording.metadata, sorted(episode.start for episode in recording.episodes))
    counts = Counter(text for episode in stages for text in {text for _, text in episode if text})
    return dict(counts.most_common())
