"""What goes wrong in the middle of a run: one line says what to do, and the last good state is kept."""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embodied.errors import UserError
from embodied.training.checkpoint import CHECKPOINTS, load_last_checkpoint, saved_checkpoints
from embodied.training.logs import METRICS_FILE, JsonLines
from embodied.training.loop import Trainer

Start = Callable[..., Trainer]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / CHECKPOINTS).iterdir())


def row(success: bool) -> dict[str, Any]:
    result = {"task": "reach", "instruction": "reach", "success": success, "env_seed": 0}
    return result | {"steps": 1, "decision_ms": [1.0]}


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Writing a file larger than `size` bytes fails with EFBIG: a full disk on a small scale."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- evaluation -----------------------------------------------------------------------------------


def test_a_renderer_that_fails_does_not_cost_the_weights(start: Start, tmp_path: Path) -> None:
    """The step is saved, with the generators as if nothing had been drawn, although no checkpoint was due."""
    start(output_dir=tmp_path / "plain", save_freq=2).run()

    def evaluate(episodes: int, seed: int) -> list[dict[str, Any]]:
        torch.rand(5)
        raise RuntimeError("renderer lost\nand more")

    with pytest.raises(UserError) as failure:
        start(env=object(), eval_freq=2, trainable={"evaluate": evaluate}).run()
    message = str(failure.value)
    assert "the evaluation after step 2 failed (RuntimeError: renderer lost; see" in message
    assert "the step is saved; continue with: embodied train --resume=true" in message
    assert "\n" not in message
    assert "in evaluate" in (tmp_path / "run" / "evaluation_error.txt").read_text()
    last = load_last_checkpoint(tmp_path / "run")
    assert last is not None
    assert last.name == "000002"
    assert json.loads((last / "evaluation_card.json").read_text()) == {"evaluated": False}
    plain = saved_checkpoints(tmp_path / "plain")[0]
    for file in ("model.safetensors", "training_state/rng.safetensors"):
        assert (last / file).read_bytes() == (plain / file).read_bytes()


def test_a_signal_ends_an_evaluation_and_saves_the_step(start: Start, tmp_path: Path) -> None:
    """Evaluations take minutes; whoever asks to stop gets seconds."""
    reached: list[str] = []

    def evaluate(episodes: int, seed: int) -> list[dict[str, Any]]:
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("the rest of the evaluation")
        return [row(True)]

    with pytest.raises(KeyboardInterrupt, match="stopped after step 2, which is saved"):
        start(env=object(), eval_freq=2, trainable={"evaluate": evaluate}).run()
    assert reached == []
    assert [folder.name for folder in saved_checkpoints(tmp_path / "run")] == ["000002"]


def test_the_best_checkpoint_outlives_the_newest(start: Start, tmp_path: Path) -> None:
    """Success is highest after step 2 of 6; the run itself goes by its last step."""
    successes = iter([True, False, False])
    trainer = start(
        env=object(),
        steps=6,
        eval_freq=2,
        save_freq=1,
        keep_last=1,
        trainable={"evaluate": lambda episodes, seed: [row(next(successes))]},
    )
    assert trainer.run()["checkpoint"].endswith("000006")
    assert names(tmp_path / "run") == ["000002", "000006", "best", "last"]
    assert (tmp_path / "run" / CHECKPOINTS / "best").resolve().name == "000002"


# --- signals --------------------------------------------------------------------------------------


def test_the_second_signal_stops_at_once(start: Start, tmp_path: Path) -> None:
    """Both come within step 2: it is not saved, and the message says from where the run goes on."""
    steps: list[int] = []

    def after_step() -> None:
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped in step 2; step 1 is the last one saved"):
        start(save_freq=1, trainable={"after_step": after_step}).run()
    assert names(tmp_path / "run") == ["000001", "last"]


def test_two_signals_while_a_checkpoint_is_written_leave_the_one_before(start: Start, tmp_path: Path) -> None:
    """What was written of the second checkpoint is gone."""
    saves: list[Path] = []

    def save(folder: Path) -> None:
        saves.append(folder)
        (folder / "model.safetensors").write_bytes(b"half")
        if len(saves) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="step 1 is the last one saved"):
        start(save_freq=1, trainable={"save": save}).run()
    assert names(tmp_path / "run") == ["000001", "last"]


# --- numbers --------------------------------------------------------------------------------------


def test_weights_that_the_last_update_broke_are_not_saved(start: Start, tmp_path: Path) -> None:
    """The loss of step 3 was computed before its update, so it tells nothing."""
    steps: list[int] = []

    def after_step() -> None:
        steps.append(1)
        if len(steps) == 3:
            trainer._parameters[0].data.fill_(torch.inf)

    trainer = start(save_freq=1, trainable={"after_step": after_step})
    with pytest.raises(UserError, match=r"the weights were not finite at step 3.*last good.*000002"):
        trainer.run()
    assert names(tmp_path / "run") == ["000001", "000002", "last"]


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["safetensors", "python"])
def test_no_room_for_a_checkpoint_leaves_the_one_before(start: Start, tmp_path: Path, by: str) -> None:
    """The second one is too large; nothing is left of it, and the first one loads."""
    saves: list[Path] = []

    def save(folder: Path) -> None:
        saves.append(folder)
        size = 200_000 if len(saves) == 2 else 10
        if by == "python":
            (folder / "model.safetensors").write_bytes(bytes(size))
        else:
            from safetensors.torch import save_file

            save_file({"layer": torch.zeros(size)}, folder / "model.safetensors")

    with no_room_beyond(100_000), pytest.raises(UserError) as failure:
        start(save_freq=2, trainable={"save": save}).run()
    message = str(failure.value)
    assert message.startswith(f"{tmp_path / 'run' / CHECKPOINTS / '000004'}: no space left to write it")
    assert "free some space" in message
    assert "--resume=true" in message
    assert names(tmp_path / "run") == ["000002", "last"]
    assert load_last_checkpoint(tmp_path / "run") is not None


def test_no_room_for_the_log_names_the_folder_and_keeps_the_checkpoint(start: Start, tmp_path: Path) -> None:
    """The row cut off in the middle goes when the run is resumed."""
    with no_room_beyond(30_000), pytest.raises(UserError) as failure:
        start(steps=1000, save_freq=10, log_freq=1).run()
    message = str(failure.value)
    assert message.startswith(f"{tmp_path / 'run'}: File too large: free some space; stopped in step")
    last = load_last_checkpoint(tmp_path / "run")
    assert last is not None
    assert f"step {int(last.name)} is the last one saved" in message
    JsonLines(tmp_path / "run", start_step=int(last.name)).close()
    lines = (tmp_path / "run" / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, int(last.name) + 1))
    assert load_file(last / "model.safetensors")
