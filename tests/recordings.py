"""Recordings of three robots, written by LeRobot itself: what users bring, small and without a defect.

A leader arm moves smoothly at random, the follower lags two frames behind it, and bright spots in every
picture follow its joints, so that nothing stands still, jumps, or is the same as anything else.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.language import (
    LANGUAGE_PERSISTENT,
    language_feature_info,
    language_persistent_column_feature,
)
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from PIL import Image

LAG = 2
"""Frames between the leader's command and the follower's state."""

SO101_JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
ALOHA_JOINTS = [
    f"{side}_{joint}"
    for side in ("left", "right")
    for joint in (
        "waist",
        "shoulder",
        "elbow",
        "forearm_roll",
        "wrist_angle",
        "wrist_rotate",
        "gripper",
    )
]


@dataclass(frozen=True, kw_only=True)
class Robot:
    """How a robot records; scale: of its numbers; lengths: of the episodes in frames."""

    name: str
    fps: int
    state: list[str]
    action: list[str]
    cameras: dict[str, tuple[int, int]]
    video: bool
    scale: float
    tasks: list[str]
    lengths: tuple[int, ...] = (60, 70, 64, 80)
    marks: bool = False


SO101 = Robot(
    name="so101_follower",
    fps=30,
    state=[f"{joint}.pos" for joint in SO101_JOINTS],
    action=[f"{joint}.pos" for joint in SO101_JOINTS],
    cameras={"front": (48, 64), "wrist": (48, 64)},
    video=True,
    scale=40.0,
    tasks=["pick up the red block"],
)
ALOHA = Robot(
    name="aloha",
    fps=50,
    state=ALOHA_JOINTS,
    action=ALOHA_JOINTS,
    cameras={"cam_high": (32, 32)},
    video=False,
    scale=1.0,
    tasks=["hand over the cube"],
)
METAWORLD = Robot(
    name="metaworld_sawyer",
    fps=80,
    state=["hand_x", "hand_y", "hand_z", "gripper_opening"],
    action=["hand_dx", "hand_dy", "hand_dz", "gripper_force"],
    cameras={"corner": (32, 32), "gripper": (32, 32)},
    video=False,
    scale=0.2,
    tasks=["reach the ball", "open the drawer"],
    marks=True,
)
ROBOTS = {"so101": SO101, "aloha": ALOHA, "metaworld": METAWORLD}


def smooth(draw: np.random.Generator, frames: int, dimensions: int) -> np.ndarray:
    """A smooth random walk (frames, dimensions) of about unit size, without a period."""
    window = np.hanning(15)
    walk = draw.normal(size=(frames + 60, dimensions)).cumsum(0) / 8
    rows = [np.convolve(column, window / window.sum(), mode="same") for column in walk.T]
    return np.tanh(np.stack(rows, axis=1)[30:-30])


def picture(joints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A textured background with a bright spot for every two joints in [-1, 1], uint8 (H, W, 3)."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([40 + rows % 32, 60 + columns % 24, 90 + (rows + columns) % 16], axis=-1).astype(float)
    for row, column in joints[: len(joints) // 2 * 2].reshape(-1, 2):
        far = np.hypot(rows - (row + 1) / 2 * (height - 1), columns - (column + 1) / 2 * (width - 1))
        image += 130 * np.exp(-((far / (height / 8)) ** 2))[..., None]
    return image.clip(0, 255).astype(np.uint8)


def features_of(robot: Robot) -> dict[str, dict]:
    kind = "video" if robot.video else "image"
    features: dict[str, dict] = {
        f"observation.images.{camera}": {
            "dtype": kind,
            "shape": (*size, 3),
            "names": ["height", "width", "channels"],
        }
        for camera, size in robot.cameras.items()
    }
    for key, names in (("observation.state", robot.state), ("action", robot.action)):
        features[key] = {"dtype": "float32", "shape": (len(names),), "names": list(names)}
    if robot.marks:
        features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
        features["next.success"] = {"dtype": "bool", "shape": (1,), "names": None}
    return features


def write_recording(
    root: Path, robot: Robot, seed: int = 0, spoil: Callable[[int, int, dict], None] | None = None
) -> Path:
    """Record the robot's episodes; with `marks`, every episode but the last one ends in success.

    spoil: changes a row before it is written, given the episode and the frame.
    """
    dataset = LeRobotDataset.create(
        "local/recording",
        fps=robot.fps,
        features=features_of(robot),
        root=root,
        robot_type=robot.name,
        use_videos=robot.video,
        video_backend="pyav",
        rgb_encoder=RGBEncoderConfig(vcodec="h264", extra_options={"x264-params": "log=0"}),
    )
    draw = np.random.default_rng(seed)
    for episode, length in enumerate(robot.lengths):
        path = smooth(draw, length + LAG, len(robot.action))
        leader, follower = path[LAG:], path[:-LAG]
        state = robot.scale * (follower + draw.normal(scale=1e-3, size=follower.shape))
        action = robot.scale * leader if robot.state == robot.action else 5 * np.diff(path, axis=0)[1:]
        for frame in range(length):
            row: dict[str, Any] = {
                f"observation.images.{camera}": picture(np.roll(follower[frame], place), size)
                for place, (camera, size) in enumerate(robot.cameras.items())
            }
            row["observation.state"] = state[frame, : len(robot.state)].astype(np.float32)
            row["action"] = action[frame].astype(np.float32)
            if robot.marks:
                success = frame == length - 1 and episode < len(robot.lengths) - 1
                row["next.reward"] = np.array([float(success)], np.float32)
                row["next.success"] = np.array([success])
            if spoil is not None:
                spoil(episode, frame, row)
            dataset.add_frame(row | {"task": robot.tasks[episode % len(robot.tasks)]})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


# --- changing what was written --------------------------------------------------------------------


def data_file(root: Path) -> Path:
    return next((root / "data").rglob("*.parquet"))


def episode_file(root: Path) -> Path:
    return next((root / "meta/episodes").rglob("*.parquet"))


def rewrite(path: Path, key: str, change: Callable[[list], list]) -> list:
    """Change one column of a Parquet file; returns its new values."""
    table = pq.read_table(path)
    place, field = table.column_names.index(key), table.schema.field(key)
    values = change(table[key].to_pylist())
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)
    return values


def change_numbers(root: Path, key: str, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    """Change a vector column, (N, D), in place or by what is returned; stats.json follows."""

    def apply(values: list) -> list:
        numbers = np.array(values, np.float32)
        changed = change(numbers)
        return (numbers if changed is None else changed).tolist()

    numbers = np.array(rewrite(data_file(root), key, apply))
    path = root / "meta/stats.json"
    statistics = json.loads(path.read_text())
    with np.errstate(invalid="ignore"):
        for name in ("min", "max", "mean", "std"):
            statistics[key][name] = np.atleast_1d(getattr(numbers, name)(axis=0)).tolist()
    path.write_text(json.dumps(statistics))


def change_pictures(root: Path, camera: str, change: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Change the PNG pictures of one camera: (frame of the data set, picture) -> picture."""

    def apply(entries: list) -> list:
        changed = []
        for index, entry in enumerate(entries):
            with Image.open(io.BytesIO(entry["bytes"])) as image:
                before = np.asarray(image)
            file = io.BytesIO()
            Image.fromarray(change(index, before)).save(file, "png")
            changed.append({"bytes": file.getvalue(), "path": None})
        return changed

    rewrite(data_file(root), f"observation.images.{camera}", apply)


def add_subgoals(root: Path, episodes: list[list[tuple[float, str]]]) -> Path:
    """Write LeRobot's persistent language column: per episode sub-goals and seconds at which they begin."""
    path = data_file(root)
    table = pq.read_table(path)
    row = {"role": "assistant", "style": "subtask", "camera": None, "tool_calls": None}
    rows = [
        [{**row, "content": text, "timestamp": time} for time, text in episodes[number]]
        for number in table["episode_index"].to_pylist()
    ]
    features = Features({LANGUAGE_PERSISTENT: language_persistent_column_feature()})
    column = Dataset.from_dict({LANGUAGE_PERSISTENT: rows}, features).data[LANGUAGE_PERSISTENT]
    pq.write_table(table.append_column(LANGUAGE_PERSISTENT, column), path)
    described = json.loads((root / "meta/info.json").read_text())["features"]
    described[LANGUAGE_PERSISTENT] = language_feature_info()[LANGUAGE_PERSISTENT]
    change_info(root, features=described)
    return root


def change_info(root: Path, **values: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_feature(root: Path, key: str, **values: Any) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    info["features"][key] |= values
    path.write_text(json.dumps(info))
