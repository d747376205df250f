"""Serving an exported policy, and deciding by one, where torch, LeRobot and the like cannot be imported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embodied.serving.client import PolicyClient
from embodied.serving.local import LocalPolicy
from embodied.serving.runners import find_target
from tests.exports import save_export
from tests.serving.specifications import POLICY, ROBOT

ROOT = Path(__file__).parents[2]
TRAINING = (
    "torch",
    "lerobot",
    "transformers",
    "safetensors",
    "timm",
    "datasets",
    "onnx",
    "gymnasium",
    "mujoco",
)
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""
LOOK = {
    "images": {name: np.zeros(size, np.uint8) for name, size in ROBOT.cameras.items()},
    "state": np.float32([1, 2, 3]),
    "task": "reach",
    "age": 0.0,
    "deadline": 20.0,
}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return save_export(tmp_path / "exported", POLICY)


def block(folder: Path, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Have every process that this one starts, and those that they start, refuse to import these modules."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"BLOCKED = {modules!r}\n{BLOCKER}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))


def test_the_blocker_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block(tmp_path / "site", monkeypatch, *TRAINING)
    child = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, text=True)
    assert "torch is blocked" in child.stderr


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (["embodied.cli", "serve"], TRAINING),
        (["embodied.serving"], (*TRAINING, "draccus", "yaml", "PIL", "pandas", "pyarrow")),
    ],
    ids=["the command line", "the light entry"],
)
def test_an_export_is_served(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    without: tuple[str, ...],
) -> None:
    block(tmp_path / "site", monkeypatch, *without)
    flags = [f"--policy.path={exported}", "--port=0", "--mode=imagine"]
    server = subprocess.Popen(
        [sys.executable, "-m", *command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line.startswith("serving"):
        pytest.fail(server.communicate()[1])
    with PolicyClient(line.split()[3].rstrip(","), robot=ROBOT) as client:
        assert client.offer.mode == "imagine"
        np.testing.assert_allclose(client.act(**LOOK).decision.actions, [[1, 2, 3]] * 5, atol=0.01)
    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors


def test_a_robots_computer_decides_by_an_export(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block(tmp_path / "site", monkeypatch, *TRAINING, "draccus")
    policy = LocalPolicy(find_target(exported, null=False, device=None, overrides=[]), robot=ROBOT)
    try:
        np.testing.assert_allclose(policy.act(**LOOK).decision.actions, [[1, 2, 3]] * 5, atol=0.01)
    finally:
        policy.close()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--policy.path=nowhere"], "--policy.path=nowhere: expected a folder that `embodied export` wrote"),
        ([], "the following arguments are required: --policy.path"),
        (["--policy.path={exported}", "--port=x"], "argument --port: invalid int value: 'x'"),
        (["--policy.path={exported}", "--openpi=maybe"], "argument --openpi: maybe: expected true or false"),
        (["--policy.path={exported}", "--host=0.0.0.0"], "--host=0.0.0.0: others can reach it"),
        (["--policy.path={exported}", "--device=cpu"], "unrecognized arguments: --device=cpu"),
    ],
)
def test_bad_input_of_the_light_entry_is_one_line(
    exported: Path, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    from embodied.serving.__main__ import main

    assert main([flag.format(exported=exported) for flag in flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"embodied: {line}")
    assert error.count("\n") == 1


def test_the_light_entry_reads_the_flags_of_serve(exported: Path) -> None:
    from embodied.serving.__main__ import parse

    flags = ["--openpi", "--null=true", "--token_file=t", "--max_batch=4", "--inference_timeout=1.5"]
    config = parse([f"--policy.path={exported}", *flags])
    assert (config.openpi, config.null, config.token_file) == (True, True, Path("t"))
    assert (config.max_batch, config.inference_timeout, config.host) == (4, 1.5, "127.0.0.1")
