"""`embodied serve` as users run it."""

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.cli import main
from embodied.errors import UserError
from embodied.manifest import write_manifest
from embodied.serving.client import PolicyClient
from embodied.serving.config import ServeConfig, ServedPolicy
from embodied.serving.serve import settings_of, tidy
from embodied.serving.specification import from_checkpoint

JOINTS = {"kind": "STATE", "shape": [2], "names": ["a.pos", "gripper.pos"], "min": [-9, 0], "max": [9, 100]}
NOTED = {
    "robot_type": "sim_so101",
    "rate_hz": 30,
    "observation": {
        "observation.state": JOINTS,
        "observation.images.front": {"kind": "VISUAL", "shape": [3, 4, 6]},
    },
    "action": {"action": JOINTS},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"type": "latent_vla", "chunk_size": 4}))
    (folder / "specification.json").write_text(json.dumps(NOTED))
    write_manifest(folder)
    return folder


def test_it_serves_until_sigterm_and_writes_what_it_did(checkpoint: Path, tmp_path: Path) -> None:
    result = tmp_path / "serve.json"
    flags = [f"--policy.path={checkpoint}", "--null", "--port=0", f"--json={result}"]
    command = [sys.executable, "-m", "embodied.cli", "serve", *flags]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    line = child.stdout.readline()
    specification = from_checkpoint(checkpoint)
    assert line.startswith(f"serving {specification.checkpoint[:12]} at ws://127.0.0.1:")
    robot = replace(specification, chunk_size=0, n_action_steps=0)
    with PolicyClient(line.split()[3].rstrip(","), robot=robot) as client:
        images = {"front": np.zeros((4, 6, 3), np.uint8)}
        answer = client.act(images=images, state=np.float32([1, 50]), task="", age=0.0, deadline=10.0)
        assert answer.decision.actions.tolist() == [[1.0, 50.0]] * 4
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    written = json.loads(result.read_text())
    assert written["checkpoint"] == specification.checkpoint
    assert written["requests"]["answered"] == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--host=0.0.0.0"], "--host=0.0.0.0: others can reach it: expected --tls_cert, --tls_key and"),
        (["--port=70000"], "--port=70000: expected 0 to 65535"),
        (["--max_batch=0"], "--max_batch=0: expected at least 1"),
        (["--max_candidates=2"], "--max_candidates=2: expected 3 to 4096"),
        (["--max_candidates=8"], "--max_candidates=8: expected plan among the modes, reactive"),
        (["--tls_cert=a"], "--tls_cert=a: expected --tls_key as well"),
        (["--tls_cert=a", "--tls_key=b"], "--tls_cert=a --tls_key=b: expected a certificate and its key"),
        (["--token_file=none"], "--token_file=none: expected a file with a token"),
        (["--modes=plan"], "--modes=plan: expected some of reactive"),
        (["--mode=plan"], "--mode=plan: expected one of reactive"),
    ],
)
def test_bad_input_is_one_line(
    checkpoint: Path, capfd: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    assert main(["serve", f"--policy.path={checkpoint}", "--null", "--port=0", *flags]) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith(f"embodied: {line}")


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", f"--policy.path={tmp_path}", "--null"]) == 2
    assert f"embodied: {tmp_path}: is not a checkpoint" in capfd.readouterr().err


def test_a_port_that_is_taken_is_named(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", f"--policy.path={checkpoint}", "--null", f"--port={port}"]) == 2
    assert f"--host=127.0.0.1 --port={port}: expected an address" in capfd.readouterr().err


def config(**changes: Any) -> ServeConfig:
    return ServeConfig(policy=ServedPolicy(path=Path("x")), **changes)


def test_settings_are_safe_by_default() -> None:
    settings = settings_of(config())
    assert settings.host == "127.0.0.1"
    assert not settings.openpi
    assert settings_of(config(modes="reactive, plan")).modes == ("reactive", "plan")
    with pytest.raises(UserError):
        config(inference_timeout=0)


def test_what_has_ended_is_freed_within_a_period_though_python_sees_no_need() -> None:
    class Ended:
        pass

    async def run() -> bool:
        one, other = Ended(), Ended()
        one.other, other.one = other, one  # type: ignore[attr-defined]
        watched = weakref.ref(one)
        del one, other
        tidying = asyncio.create_task(tidy(0.01))
        await asyncio.sleep(0.2)
        tidying.cancel()
        return watched() is None

    gc.disable()
    try:
        assert asyncio.run(run())
    finally:
        gc.enable()
