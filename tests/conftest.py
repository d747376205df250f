"""What every test runs under: a way to draw, one thread per process, no hub, no traces in the home folder."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.rendering_backend import use_renderer

# Before anything imports mujoco, torch or lerobot, which read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update({"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "TOKENIZERS_PARALLELISM": "false"})
HOME = tempfile.TemporaryDirectory(prefix="embodied-tests-")
os.environ["HF_HOME"] = os.environ["HF_LEROBOT_HOME"] = HOME.name
try:
    use_renderer()
    NO_RENDERER = None
except UserError as error:
    NO_RENDERER = str(error)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a clean data set of one of `tests.recordings.ROBOTS`, written once; not to be changed."""
    from tests.recordings import ROBOTS, write_recording

    roots: dict[str, Path] = {}

    def root(robot: str) -> Path:
        if robot not in roots:
            roots[robot] = write_recording(tmp_path_factory.mktemp("recordings") / robot, ROBOTS[robot])
        return roots[robot]

    return root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, saying why, what this machine cannot run."""
    for item in items:
        if NO_RENDERER and item.get_closest_marker("render"):
            item.add_marker(pytest.mark.skip(reason=NO_RENDERER))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
