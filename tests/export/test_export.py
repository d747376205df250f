"""What is exported decides as the checkpoint does, for whom it serves together, without torch; or is not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.config import CheckpointConfig, DatasetConfig
from embodied.errors import UserError
from embodied.export import export as command
from embodied.export.config import ExportConfig
from embodied.export.export import export
from embodied.manifest import MANIFEST
from embodied.serving.checkpoint_runner import CheckpointRunner
from embodied.serving.export_folder import EXPORT
from embodied.serving.exported_runner import ExportedRunner
from embodied.serving.runner import Request
from tests.checkpoints import THINKING, save_checkpoint, save_dataset

pytestmark = pytest.mark.slow  # tracing takes torch ten seconds, be the policy ever so small
ROOT = Path(__file__).parents[2]
SHORT = {"chunk_size": 6, "n_action_steps": 2, "action_tokens": 2, "euler_steps": 2}
STATEFUL = {
    "n_obs_steps": 3,
    "memory_tokens": 2,
    "memory_window": 4,
    "memory_subgoals": True,
    "relative_actions": True,
    "imagine_subgoals": True,
    "subgoals": ["reach", "pull"],
    "proprioceptive_latents": True,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    return DatasetConfig(root=save_dataset(tmp_path_factory.mktemp("data") / "tiny"))


def config_for(checkpoint: Path, data: DatasetConfig | None, **changes: Any) -> ExportConfig:
    settings = {"output_dir": checkpoint.with_name("exported"), "observations": 12, "dataset": data}
    return ExportConfig(policy=CheckpointConfig(path=checkpoint), **{**settings, **changes})


@pytest.fixture(scope="module")
def thinking(tmp_path_factory: pytest.TempPathFactory, data: DatasetConfig) -> tuple[Path, Path, dict]:
    """A checkpoint that imagines, its export and the command's result."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("thinking") / "checkpoint", **SHORT, **THINKING)
    config = config_for(checkpoint, data)
    return checkpoint, config.output_dir, export(config)


def look(session: str, seed: int, **changes: Any) -> Request:
    draw = np.random.default_rng(seed)
    images = {name: draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) for name in ("corner", "gripper")}
    task = ["reach", "open the drawer"][seed % 2]
    return Request(
        session=session, images=images, state=draw.normal(size=3).astype(np.float32), task=task, **changes
    )


# --- the command ----------------------------------------------------------------------------------


def test_the_result_tells_modes_errors_and_latencies(thinking: tuple[Path, Path, dict]) -> None:
    _, folder, result = thinking
    assert json.loads(json.dumps(result)) == result
    assert list(result["modes"]) == ["reactive", "imagine"]
    for mode, row in result["modes"].items():
        assert row["observations"] == 12
        assert 0 < row["max_abs_error"] <= result["tolerance"] == 1e-4
        assert row["bytes"] == (folder / f"{mode}.onnx").stat().st_size
        assert all(row["latency_ms"][side]["p95"] > 0 for side in ("exported", "eager"))
    assert sorted(path.name for path in folder.iterdir()) == [
        MANIFEST,
        EXPORT,
        "imagine.onnx",
        "reactive.onnx",
    ]


def test_a_graph_that_decides_otherwise_is_not_written(
    thinking: tuple[Path, Path, dict], data: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, folder, _ = thinking

    def write_the_other(graph: Any, cameras: Any, path: Path) -> None:
        path.write_bytes((folder / "imagine.onnx").read_bytes())

    monkeypatch.setattr(command, "write_graph", write_the_other)
    config = config_for(checkpoint, data, output_dir=tmp_path / "exported", modes="reactive")
    with pytest.raises(UserError, match=r"in mode reactive the graph differs by .*: expected at most 0.0001"):
        export(config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": "reactive,plan"}, "--modes=reactive,plan: expected some of reactive, imagine"),
        ({"modes": ""}, "--modes=: expected some of reactive, imagine"),
        ({"policy_overrides": ["--intervention=noise", "--mode=imagine"]}, "its intervention is noise"),
        ({"dataset": None}, "expected a data set with observations to compare at"),
    ],
)
def test_what_cannot_be_exported_is_named(
    thinking: tuple[Path, Path, dict],
    data: DatasetConfig,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    config = config_for(thinking[0], data, output_dir=tmp_path / "exported")
    with pytest.raises(UserError, match=message):
        export(replace(config, **changes))


def test_an_export_is_never_overwritten(thinking: tuple[Path, Path, dict], data: DatasetConfig) -> None:
    with pytest.raises(UserError, match="is there already: expected a new folder"):
        config_for(thinking[0], data)


# --- running it -----------------------------------------------------------------------------------


def compare_sessions(checkpoint: Path, folder: Path, mode: str) -> None:
    """Two sessions, one behind the other, batched together in the export and alone in the checkpoint."""
    runners = CheckpointRunner(checkpoint, device="cpu"), ExportedRunner(folder, threads=1)
    assert runners[1].specification.checkpoint == runners[0].specification.checkpoint
    for runner in runners:
        runner.open("a", mode)
        runner.open("b", mode)
    prefix = np.random.default_rng(5).normal(size=(4, 3))
    a = [look("a", 1), look("a", 2), look("a", 3, prefix=prefix, delay=2), look("a", 4, reset=True)]
    b = [look("b", 11), look("b", 12), look("b", 13, prefix=prefix[:1])]
    for mine, other in zip(a, [*b, look("b", 14)], strict=True):
        together = [decision.actions for decision in runners[1].act([mine, other])]
        alone = [runners[0].act([request])[0].actions for request in (mine, other)]
        np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("mode", ["reactive", "imagine"])
def test_sessions_of_the_export_decide_as_those_of_the_checkpoint(
    thinking: tuple[Path, Path, dict], mode: str
) -> None:
    compare_sessions(thinking[0], thinking[1], mode)


def test_history_and_memory_go_in_and_out_of_the_graph(tmp_path: Path, data: DatasetConfig) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", **SHORT, **THINKING, **STATEFUL)
    config = config_for(checkpoint, data, modes="imagine")
    assert export(config)["modes"]["imagine"]["max_abs_error"] <= 1e-4
    compare_sessions(checkpoint, config.output_dir, "imagine")


@pytest.mark.parametrize(
    ("mode", "looking"),
    [
        ("reactive", {"guided_latents": 1, "waypoint_loss_weight": 1.0}),
        (
            "imagine",
            {"imagination": "grounded", "imagine_subgoals": True, "subgoals": ["reach for it", "pull"]},
        ),
    ],
)
def test_a_graph_looks_for_what_is_named(
    mode: str, looking: dict[str, Any], tmp_path: Path, data: DatasetConfig
) -> None:
    checkpoint = save_checkpoint(tmp_path / "checkpoint", **SHORT, **looking, n_obs_steps=2)
    config = config_for(checkpoint, data, modes=mode)
    assert export(config)["modes"][mode]["max_abs_error"] <= 1e-4
    compare_sessions(checkpoint, config.output_dir, mode)


WITHOUT = """
import sys
BLOCKED = ("torch", "lerobot", "transformers", "safetensors", "timm", "draccus", "datasets", "onnx")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from pathlib import Path
import numpy as np
from embodied.serving.exported_runner import ExportedRunner
from embodied.serving.runner import Request
runner = ExportedRunner(Path(sys.argv[1]), threads=1)
runner.open("only", "imagine")
images = {name: np.zeros(size, np.uint8) for name, size in runner.specification.cameras.items()}
request = Request(session="only", images=images, state=np.zeros(3, np.float32), task="reach")
print(runner.act([request])[0].actions.tolist())
"""


def test_an_export_runs_without_the_training_dependencies(thinking: tuple[Path, Path, dict]) -> None:
    command_line = [sys.executable, "-c", WITHOUT, str(thinking[1])]
    child = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    runner = CheckpointRunner(thinking[0], device="cpu")
    runner.open("only", "imagine")
    images = {name: np.zeros((32, 32, 3), np.uint8) for name in ("corner", "gripper")}
    request = Request(session="only", images=images, state=np.zeros(3, np.float32), task="reach")
    np.testing.assert_allclose(json.loads(child.stdout), runner.act([request])[0].actions, atol=1e-4)


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_damaged_export_is_refused(thinking: tuple[Path, Path, dict], tmp_path: Path) -> None:
    folder = copy_of(thinking[1], tmp_path / "copy")
    graph = folder / "imagine.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"imagine.onnx: its SHA-256 differs .*: the export is damaged"):
        ExportedRunner(folder)
