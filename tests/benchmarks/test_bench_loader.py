"""`bench loader` measures both sides in turn and reports the ratio."""

from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.benchmarks import loader as loader_module
from embodied.benchmarks.loader import bench_loader
from embodied.config import BenchConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve frames of one small camera."""
    features = {
        "observation.images.a": {
            "dtype": "image",
            "shape": (8, 8, 3),
            "names": ["height", "width", "channels"],
        },
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
    }
    dataset = LeRobotDataset.create(
        "local/bench", 20, features, root=tmp_path / "set", use_videos=False, video_backend="pyav"
    )
    for _ in range(12):
        picture = np.zeros((8, 8, 3), np.uint8)
        dataset.add_frame(
            {"observation.images.a": picture, "action": np.zeros(2, np.float32), "task": "wait"}
        )
    dataset.save_episode()
    dataset.finalize()
    return tmp_path / "set"


def test_ours_and_the_faster_peer_are_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "PEER_WORKERS", (0,))
    result = bench_loader(BenchConfig(repeats=3, steps=20, batch_size=4, dataset_root=root))
    assert len(result["pairs"]) == 3
    assert result["unit"] == "samples per second"
    assert result["ours"] == sorted(pair["ours"] for pair in result["pairs"])[1]
    assert result["peer"] == sorted(pair["peer_0_workers"] for pair in result["pairs"])[1]
    assert result["ratio"] == sorted(pair["ours"] / pair["peer_0_workers"] for pair in result["pairs"])[1]
    assert result["ratio"] > 1
