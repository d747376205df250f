"""The loop itself, on a linear model whose numbers can be followed."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from embodied.config import OptimizerConfig
from embodied.errors import UserError
from embodied.training.checkpoint import saved_checkpoints
from embodied.training.loop import Trainer

Start = Callable[..., Trainer]


def weights(checkpoint: Path | str) -> dict[str, Tensor]:
    return load_file(Path(checkpoint) / "model.safetensors")


def test_two_batches_of_four_make_the_step_of_one_batch_of_eight(start: Start, tmp_path: Path) -> None:
    """Accumulation averages the gradients, and clips and updates once."""
    whole = start(output_dir=tmp_path / "whole", batch_size=8, steps=3).run()
    parts = start(output_dir=tmp_path / "parts", batch_size=4, accumulation=2, steps=3).run()
    assert whole["samples"] == parts["samples"] == 24
    for name, value in weights(whole["checkpoint"]).items():
        torch.testing.assert_close(weights(parts["checkpoint"])[name], value)


def test_the_first_update_is_adams(start: Start) -> None:
    """Adam's first step is the learning rate along the sign of the gradient: both parameters rise to 0.1."""
    result = start(
        steps=1, optimizer=OptimizerConfig(lr=0.1, warmup_steps=0, weight_decay=0, ema_decay=0)
    ).run()
    for value in weights(result["checkpoint"]).values():
        assert value.item() == pytest.approx(0.1, rel=1e-4)


def test_the_averaged_weights_are_the_ones_to_act_with(start: Start) -> None:
    """After one update from 0 to 0.1 with decay min(0.5, 1/10): 0.9 * 0.1; the optimized one is beside it."""
    settings = OptimizerConfig(lr=0.1, warmup_steps=0, weight_decay=0, ema_decay=0.5)
    checkpoint = Path(start(steps=1, optimizer=settings).run()["checkpoint"])
    optimized = load_file(checkpoint / "training_state" / "model.safetensors")
    assert weights(checkpoint)["layer.weight"].item() == pytest.approx(0.09, rel=1e-4)
    assert optimized["layer.weight"].item() == pytest.approx(0.1, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(start: Start, tmp_path: Path) -> None:
    """Sample 17 is in the fifth batch of four; the checkpoint of step 4 stays the last."""
    with pytest.raises(UserError, match=r"not finite at step 5.*000004"):
        start(broken=17, steps=20, save_freq=2, log_freq=7).run()
    assert [folder.name for folder in saved_checkpoints(tmp_path / "run")] == ["000002", "000004"]
    for value in weights(tmp_path / "run" / "checkpoints" / "last").values():
        assert value.isfinite().all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_resume(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """The signal comes within the second step; afterwards the handlers are the previous ones."""
    steps: list[int] = []

    def after_step() -> None:
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"step 2.*resume with: embodied train --resume=true"):
        start(trainable={"after_step": after_step}).run()
    assert signal.getsignal(number) is before
    assert [folder.name for folder in saved_checkpoints(tmp_path / "run")] == ["000002"]


def test_the_models_own_hook_runs_once_per_update(start: Start) -> None:
    """Not once per accumulated batch."""
    calls: list[int] = []
    start(steps=3, accumulation=2, trainable={"after_step": lambda: calls.append(1)}).run()
    assert len(calls) == 3


def rows_of(success: list[bool]) -> list[dict[str, Any]]:
    return [
        {
            "task": "reach",
            "instruction": "reach",
            "success": value,
            "env_seed": seed,
            "steps": 1,
            "decision_ms": [1.0],
        }
        for seed, value in enumerate(success)
    ]


def test_evaluation_leaves_the_training_as_it_was_and_is_saved(start: Start, tmp_path: Path) -> None:
    """It draws random numbers and puts the model in evaluation mode; the weights do not notice."""
    modes: list[bool] = []

    def evaluate(episodes: int, seed: int) -> list[dict[str, Any]]:
        torch.rand(5)
        modes.append(trainer._module.training)
        assert (episodes, seed) == (2, 7)
        return rows_of([True, False])

    plain = start(output_dir=tmp_path / "plain").run()
    trainer = start(
        output_dir=tmp_path / "evaluated",
        env=object(),
        eval_freq=2,
        eval_episodes=2,
        eval_seed=7,
        trainable={"evaluate": evaluate},
    )
    result = trainer.run()
    assert modes == [False, False]
    assert all(trainer._module.modes)
    assert result["evaluation"]["success_rate"] == 0.5
    card = json.loads((Path(result["checkpoint"]) / "evaluation_card.json").read_text())
    assert (card["evaluated"], card["step"], card["tasks"][0]["successes"]) == (True, 4, 1)
    for name, value in weights(plain["checkpoint"]).items():
        assert torch.equal(weights(result["checkpoint"])[name], value)


def test_a_log_line_holds_what_a_run_is_judged_by(start: Start, tmp_path: Path) -> None:
    """Two lines for four steps; the model's metric is the mean over the interval."""
    start().run()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    expected = {"step", "loss", "lr", "grad_norm", "samples_per_s", "data_fraction", "weight"}
    assert set(rows[0]) == expected
    assert rows[0]["weight"] == pytest.approx(
        0.05, rel=1e-3
    )  # 0 before the first update, 0.1 before the second


def test_old_checkpoints_are_removed(start: Start, tmp_path: Path) -> None:
    """Every step is saved, two are kept."""
    start(save_freq=1, keep_last=2).run()
    assert [folder.name for folder in saved_checkpoints(tmp_path / "run")] == ["000003", "000004"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")
def test_compiled_and_plain_training_agree(start: Start, tmp_path: Path) -> None:
    """`torch.compile` changes the speed, not the result."""
    plain = start(output_dir=tmp_path / "plain").run()
    compiled = start(output_dir=tmp_path / "compiled", compile=True).run()
    for name, value in weights(plain["checkpoint"]).items():
        torch.testing.assert_close(weights(compiled["checkpoint"])[name], value)
