"""What a run writes while it trains."""

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from embodied.errors import UserError
from embodied.training.logs import METRICS_FILE, JsonLines, RunLog, TensorBoard


def rows(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / METRICS_FILE).read_text().splitlines()]


def test_resuming_drops_lines_after_the_checkpoint_and_a_torn_one(tmp_path: Path) -> None:
    """Steps 1 to 3 and half a line were written; the checkpoint is of step 2."""
    lines = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3))
    (tmp_path / METRICS_FILE).write_text(lines + '{"step": 4, "lo')
    log = JsonLines(tmp_path, start_step=2)
    log.write(3, {"loss": 0.5})
    log.close()
    assert rows(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.5}]


def test_tensorboard_shows_one_value_per_step_after_a_resume(tmp_path: Path) -> None:
    """Steps 1 to 3 were written; the checkpoint is of step 2, and the resumed step 3 counts."""
    for start_step, steps, loss in ((0, (1, 2, 3), 1.0), (2, (3,), 0.5)):
        log = TensorBoard(tmp_path, start_step)
        for step in steps:
            log.write(step, {"loss": loss})
        log.close()
    shown = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(point.step, point.value) for point in shown] == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    """JSON has no NaN."""
    log = JsonLines(tmp_path, start_step=0)
    log.write(1, {"loss": float("nan")})
    log.close()
    assert rows(tmp_path) == [{"step": 1, "loss": None}]


def test_every_sink_gets_the_row(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """JSON lines, TensorBoard's event file, and the headline in the progress bar."""
    log = RunLog(tmp_path, start_step=0, steps=2, settings={}, wandb=False)
    log.write(1, {"loss": 0.25, "samples_per_s": 100.0})
    for _ in range(2):
        log.advance()
    log.close()
    assert rows(tmp_path)[0]["loss"] == 0.25
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert "loss 0.25, 100 samples/s" in capsys.readouterr().err


def test_wandb_is_asked_for_only_by_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the flag is answered with what to install."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    RunLog(tmp_path, start_step=0, steps=1, settings={}, wandb=False).close()
    with pytest.raises(UserError, match="wandb is not installed"):
        RunLog(tmp_path, start_step=0, steps=1, settings={}, wandb=True)
