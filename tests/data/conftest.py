"""Data sets written by LeRobot itself, small enough to compare frame by frame."""

from pathlib import Path

import numpy as np
import pytest
from lerobot.configs import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 20
LENGTHS = (7, 1, 12)
FILM_LENGTHS = (7, 3, 10)
"""LeRobot cannot append a film of a single frame to another."""
TASKS = ("push the puck", "open the drawer", "push the puck")
SIZES = {"observation.images.corner": (16, 24), "observation.images.gripper": (32, 32)}


def write_dataset(root: Path, *, video: bool = False) -> Path:
    """Three episodes with 20 frames, two tasks, cameras of two sizes; the action counts the frames."""
    kind = "video" if video else "image"
    features: dict[str, dict] = {
        key: {"dtype": kind, "shape": (*size, 3), "names": ["height", "width", "channels"]}
        for key, size in SIZES.items()
    }
    features["observation.state"] = {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]}
    features["action"] = {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]}
    features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
    features["note"] = {"dtype": "string", "shape": (1,), "names": None}
    dataset = LeRobotDataset.create(
        "local/small",
        fps=FPS,
        features=features,
        root=root,
        use_videos=video,
        video_backend="pyav",
        rgb_encoder=RGBEncoderConfig(vcodec="h264", extra_options={"x264-params": "log=0"}),
    )
    draw = np.random.default_rng(0)
    count = 0
    for length, task in zip(FILM_LENGTHS if video else LENGTHS, TASKS, strict=True):
        for _ in range(length):
            frame: dict = {
                key: draw.integers(0, 256, (*size, 3), dtype=np.uint8) for key, size in SIZES.items()
            }
            frame["observation.state"] = draw.normal(size=3).astype(np.float32)
            frame["action"] = np.array([count, -count], np.float32)
            frame["next.reward"] = np.array([count / 2], np.float32)
            frame["note"] = f"frame {count}"
            dataset.add_frame(frame | {"task": task})
            count += 1
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    return root


@pytest.fixture(scope="session")
def picture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of PNG pictures, episodes of LENGTHS; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def film_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as films; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data") / "films", video=True)
