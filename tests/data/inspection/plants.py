"""Defects, one function each, planted in a copy of a clean recording. Rows are counted over the data set.

Episodes 0 to 3 have rows 0 to 59, 60 to 129, 130 to 193 and 194 to 273.
"""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.recordings import (
    change_numbers,
    change_pictures,
    data_file,
    episode_file,
    rewrite,
)

STATE, ACTION = "observation.state", "action"
EPISODE = {0: slice(0, 60), 1: slice(60, 130), 2: slice(130, 194), 3: slice(194, 274)}


@dataclass(frozen=True)
class Place:
    """Where a finding has to be."""

    feature: str | None = None
    dimension: str | None = None
    episode: int | None = None
    frames: tuple[int, int] | None = None


def set_numbers(root: Path, key: str, rows: Any, dimension: int, value: Any) -> None:
    def change(values: np.ndarray) -> None:
        values[rows, dimension] = value

    change_numbers(root, key, change)


# --- numbers --------------------------------------------------------------------------------------


def not_a_number(root: Path) -> Place:
    set_numbers(root, ACTION, slice(135, 138), 2, np.nan)
    return Place(ACTION, "left_elbow", 2, (5, 7))


def infinite(root: Path) -> Place:
    set_numbers(root, STATE, slice(62, 64), 0, np.inf)
    return Place(STATE, "left_waist", 1, (2, 3))


def outlier(root: Path) -> Place:
    set_numbers(root, STATE, 70, 1, 50.0)
    return Place(STATE, "left_shoulder", 1, (10, 10))


def outlier_at_the_start(root: Path) -> Place:
    set_numbers(root, ACTION, slice(194, 196), 9, -40.0)
    return Place(ACTION, "right_elbow", 3, (0, 1))


def jump(root: Path) -> Place:
    def change(values: np.ndarray) -> None:
        values[160:194, 0] += 3

    change_numbers(root, STATE, change)
    return Place(STATE, "left_waist", 2, (29, 30))


def dead_joint(root: Path) -> Place:
    set_numbers(root, STATE, slice(None), 3, 0.25)
    return Place(STATE, "left_forearm_roll")


def resting_gripper(root: Path) -> Place:
    for key in (STATE, ACTION):
        set_numbers(root, key, slice(None), 13, 0.02)
    return Place(STATE, "right_gripper")


def frozen_joint(root: Path) -> Place:
    """It reads the same for 32 frames and then, little by little, the truth again."""

    def change(values: np.ndarray) -> None:
        held, truth = values[70, 0], values[102:110, 0].copy()
        values[70:102, 0] = held
        values[102:110, 0] = held + (truth - held) * np.arange(1, 9) / 8

    change_numbers(root, STATE, change)
    return Place(STATE, "left_waist", 1, (10, 41))


def unreachable_command(root: Path) -> Place:
    """A range of -3 to 3, and 40 frames at its end."""

    def change(values: np.ndarray) -> None:
        values[10, 7] = -3
        values[200:240, 7] = 3

    change_numbers(root, ACTION, change)
    return Place(ACTION, "right_waist", 3, (6, 45))


def action_is_state(root: Path) -> Place:
    state = np.array(pq.read_table(data_file(root))[STATE].to_pylist(), np.float32)

    def change(values: np.ndarray) -> None:
        values[EPISODE[2]] = state[EPISODE[2]]

    change_numbers(root, ACTION, change)
    return Place(ACTION, None, 2)


def late_action(root: Path) -> Place:
    def change(values: np.ndarray) -> None:
        here = values[EPISODE[1]].copy()
        values[EPISODE[1]] = np.concatenate([np.repeat(here[:1], 6, axis=0), here[:-6]])

    change_numbers(root, ACTION, change)
    return Place(ACTION, None, 1)


def early_action(root: Path) -> Place:
    def change(values: np.ndarray) -> None:
        here = values[EPISODE[3]].copy()
        values[EPISODE[3]] = np.concatenate([here[20:], np.repeat(here[-1:], 20, axis=0)])

    change_numbers(root, ACTION, change)
    return Place(ACTION, None, 3)


# --- structure ------------------------------------------------------------------------------------


def change_column(root: Path, key: str, rows: Any, change: Any) -> None:
    def apply(values: list) -> list:
        numbers = np.array(values)
        numbers[rows] = change(numbers[rows])
        return numbers.tolist()

    rewrite(data_file(root), key, apply)


def missing_index(root: Path) -> Place:
    change_column(root, "episode_index", EPISODE[3], lambda old: old + 1)
    return Place("episode_index", None, 3)


def wrong_length(root: Path) -> Place:
    rewrite(episode_file(root), "length", lambda old: [*old[:1], old[1] - 1, *old[2:]])
    return Place("length", None, 1)


def wrong_rows(root: Path) -> Place:
    rewrite(episode_file(root), "dataset_from_index", lambda old: [*old[:2], old[2] + 1, old[3]])
    return Place("episode_index", None, 2)


def repeated_frame_index(root: Path) -> Place:
    change_column(root, "frame_index", 75, lambda old: old - 1)
    return Place("frame_index", None, 1, (15, 15))


def repeated_timestamp(root: Path) -> Place:
    change_column(root, "timestamp", slice(10, 60), lambda old: old - 1 / 80)
    return Place("timestamp", None, 0, (9, 10))


def dropped(root: Path) -> Place:
    change_column(root, "timestamp", slice(150, 194), lambda old: old + 3 / 80)
    return Place("timestamp", None, 2, (19, 20))


def off_grid(root: Path) -> Place:
    change_column(root, "timestamp", EPISODE[1], lambda old: old + 0.004)
    return Place("timestamp", None, 1, (0, 69))


def rename_task(root: Path, old: str, new: str) -> None:
    path = root / "meta/tasks.parquet"
    pd.read_parquet(path).rename(index={old: new}).to_parquet(path)


def placeholder(root: Path) -> Place:
    rename_task(root, "open the drawer", "TODO")
    return Place("task", None, 1)


def no_instruction(root: Path) -> Place:
    rename_task(root, "reach the ball", " ")
    return Place("task", None, 0)


def unknown_task(root: Path) -> Place:
    change_column(root, "task_index", EPISODE[2], lambda old: old + 7)
    return Place("task", None, 2)


def spelling(root: Path) -> Place:
    rename_task(root, "open the drawer", "Reach the  ball.")
    return Place("task")


def other_statistics(root: Path) -> Place:
    path = root / "meta/stats.json"
    statistics = json.loads(path.read_text())
    statistics[ACTION]["max"][1] += 1
    path.write_text(json.dumps(statistics))
    return Place(ACTION, "hand_dy")


def no_statistics(root: Path) -> Place:
    (root / "meta/stats.json").unlink()
    return Place("stats.json")


def contradiction(root: Path) -> Place:
    """The last episode has no successful frame."""
    table = pq.read_table(episode_file(root))
    pq.write_table(table.append_column("success", pa.array([True] * 4)), episode_file(root))
    return Place("next.success", None, 3)


# --- pictures -------------------------------------------------------------------------------------


def other_size(root: Path) -> Place:
    def change(index: int, picture: np.ndarray) -> np.ndarray:
        return picture if index != 140 else np.tile(picture, (2, 1, 1))

    change_pictures(root, "corner", change)
    return Place("observation.images.corner", None, 2, (10, 10))


def broken_picture(root: Path) -> Place:
    broken = {"bytes": b"no picture", "path": None}
    rewrite(data_file(root), "observation.images.gripper", lambda old: [*old[:64], broken, *old[65:]])
    return Place("observation.images.gripper", None, 1, (4, 4))


def black(root: Path) -> Place:
    def change(index: int, picture: np.ndarray) -> np.ndarray:
        return picture if not 65 <= index <= 69 else np.full_like(picture, 3)

    change_pictures(root, "gripper", change)
    return Place("observation.images.gripper", None, 1, (5, 9))


def frozen(root: Path) -> Place:
    file = io.BytesIO()

    def change(index: int, picture: np.ndarray) -> np.ndarray:
        if index == 150:
            Image.fromarray(picture).save(file, "png")
        return np.asarray(Image.open(file)) if 150 <= index <= 180 else picture

    change_pictures(root, "corner", change)
    return Place("observation.images.corner", None, 2, (20, 50))


def slow(root: Path) -> Place:
    last = []

    def change(index: int, picture: np.ndarray) -> np.ndarray:
        if index % 2 == 0:
            last[:] = [picture]
        return last[0]

    change_pictures(root, "corner", change)
    return Place("observation.images.corner")


def film(root: Path, camera: str) -> Path:
    return next((root / f"videos/observation.images.{camera}").rglob("*.mp4"))


def short_film(root: Path) -> Place:
    """Of 274 frames the first 250 are left: the last episode's last 24 are missing."""
    path = film(root, "wrist")
    rewrite_film(path, lambda pictures: pictures[:250], rate=30)
    return Place("observation.images.wrist", None, 3)


def fast_film(root: Path) -> Place:
    rewrite_film(film(root, "front"), lambda pictures: [p for p in pictures for _ in range(2)], rate=60)
    return Place("observation.images.front", None, 0)


def broken_film(root: Path) -> Place:
    film(root, "front").write_bytes(b"no film")
    return Place("observation.images.front", None, 0, (0, 59))


def rewrite_film(path: Path, change: Any, rate: int) -> None:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "x264-params": "log=0"}
        for picture in change(pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


PLANTS = [
    ("not_finite", "aloha", not_a_number),
    ("not_finite", "aloha", infinite),
    ("outlier", "aloha", outlier),
    ("outlier", "aloha", outlier_at_the_start),
    ("state_jump", "aloha", jump),
    ("constant", "aloha", dead_joint),
    ("state_frozen", "aloha", frozen_joint),
    ("action_saturated", "aloha", unreachable_command),
    ("action_equals_state", "aloha", action_is_state),
    ("action_misaligned", "aloha", late_action),
    ("action_misaligned", "so101", early_action),
    ("episode_index", "metaworld", missing_index),
    ("episode_table", "metaworld", wrong_length),
    ("episode_table", "metaworld", wrong_rows),
    ("frame_index", "metaworld", repeated_frame_index),
    ("timestamp_order", "metaworld", repeated_timestamp),
    ("dropped_frames", "metaworld", dropped),
    ("timestamp_off_grid", "so101", off_grid),
    ("instruction", "metaworld", placeholder),
    ("instruction", "metaworld", no_instruction),
    ("instruction", "metaworld", unknown_task),
    ("statistics", "metaworld", other_statistics),
    ("statistics", "metaworld", no_statistics),
    ("success_mark", "metaworld", contradiction),
    ("picture_size", "metaworld", other_size),
    ("unreadable_picture", "metaworld", broken_picture),
    ("unreadable_picture", "so101", broken_film),
    ("short_film", "so101", short_film),
    ("film_rate", "so101", fast_film),
    ("blank_picture", "metaworld", black),
    ("frozen_camera", "metaworld", frozen),
]
"""Problems: the kind that has to be found, where it is planted, and what plants it and tells the place."""

NOTES = [
    ("constant", "aloha", resting_gripper),
    ("instruction_variants", "metaworld", spelling),
    ("slow_camera", "metaworld", slow),
    ("timestamp_off_grid", "metaworld", off_grid),
]


def copy(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root, to, ignore=shutil.ignore_patterns(".cache")))
