"""`embodied train`: a fixed number of optimizer steps for anything with `forward(batch) -> (loss, metrics)`.

The loop never reads a value from the device between two log lines. Everything that decides what happens next
(weights, average, moments, generators, data cursor) is in the checkpoint, so that a run that is stopped and
resumed ends with the same bits as one that was not.
"""

import dataclasses
import time
import traceback
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from embodied.config import TrainConfig
from embodied.data.dataset import first_line
from embodied.errors import DISK_FULL, UserError
from embodied.evaluation.summary import summarise
from embodied.manifest import write_json
from embodied.training.checkpoint import (
    EVALUATION_CARD,
    PROVENANCE,
    SPECIFICATION,
    keep_only,
    last_checkpoint,
    new_checkpoint,
    verify_manifest,
)
from embodied.training.feed import Feed
from embodied.training.interruption import StopNow, StopRequest
from embodied.training.lock import OutputLock
from embodied.training.logs import RunLog
from embodied.training.meter import Meter
from embodied.training.optim import WeightAverage, learning_rate_factor, make_optimizer, set_learning_rate
from embodied.training.precision import choose_precision
from embodied.training.provenance import provenance
from embodied.training.run import Run, prepare
from embodied.training.state import (
    load_metrics,
    load_random_state,
    load_training_state,
    random_state,
    save_training_state,
    seed_everything,
    set_random_state,
)
from world_models.parallel import is_distributed

UNEVALUATED = {"evaluated": False}
EVALUATION_ERROR = "evaluation_error.txt"
STOP_CHECK = 10
"""Steps after which processes that train together ask each other whether one of them is to stop."""


def train(config: TrainConfig) -> dict[str, Any]:
    """Train until `config.steps`, from the start or (`resume`) from the output folder's last checkpoint.

    Returns `output_dir`, `checkpoint`, `steps`, `samples`, `parameters`, `seconds`, `samples_per_s`, `loss`,
    `data_fraction` (share of the time spent on batches), `resumed_from` (step or None) and `evaluation`.

    SIGINT or SIGTERM: the step is finished and saved, an evaluation is left, then KeyboardInterrupt carries
    the command that resumes; the command line exits with 130. A second signal stops at once, without saving.
    Raises UserError for input that cannot be used, when another process trains into the folder, when the disk
    is full, when an evaluation fails (its step is saved), and when the loss stops being finite.
    """
    precision = choose_precision(config.mixed_precision, config.device)
    config = dataclasses.replace(config, mixed_precision=precision)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process may train more than once
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.accumulation,
        cpu=config.device == "cpu",
        # As LeRobot's trainer does: a policy may leave parameters unused in some batches.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    with OutputLock(config.output_dir) as lock:
        run = prepare(config, accelerator, lock)
        return Trainer(config, run, accelerator).run()


class Trainer:
    """One run's moving parts: model, optimizer, average, data, logs."""

    def __init__(self, config: TrainConfig, run: Run, accelerator: Accelerator) -> None:
        """Everything is in place, resumed if a checkpoint is to be resumed, when this returns."""
        self._config = config
        self._run = run
        self._accelerator = accelerator
        self._trainable = run.trainable
        self._module = run.trainable.module
        self._optimizer = make_optimizer(self._module, run.trainable.parameter_groups, config.optimizer)
        self._parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._average = _average_of(self._parameters, config)
        if config.compile:
            self._module.forward = torch.compile(self._module.forward)  # type: ignore[method-assign]
        self._model, self._stepper = accelerator.prepare(self._module, self._optimizer)
        self.step = run.start_step
        self._meter = Meter(accelerator.device, self.step, run.samples_per_step)
        if run.checkpoint is not None:
            verify_manifest(run.checkpoint)  # once more: decoding the data may have taken long
            load_training_state(
                run.checkpoint, module=self._module, optimizer=self._optimizer, average=self._average
            )
            self._meter.restore(load_metrics(run.checkpoint))
            self._generators = load_random_state(run.checkpoint)
        self._module.train()
        self._feed = Feed(
            run.loader,
            device=accelerator.device,
            augmentation=run.augmentation,
            preprocess=run.trainable.preprocess,
        )
        self._log: RunLog | None = None
        self._saved_step = self.step
        self._started = self._paused = 0.0
        self._last_row: dict[str, float] = {}
        self._evaluation: dict[str, Any] | None = None

    # --- the run ----------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Train to the end and describe the result."""
        config = self._config
        try:
            self._open_log()
            # Only the main process's generators are saved: it draws what belongs to the joint batch.
            seed_everything(config.seed + self._accelerator.process_index + self.step)
            if self._run.checkpoint is not None and self._accelerator.is_main_process:
                set_random_state(*self._generators)
            self._started = time.perf_counter()
            self._meter.start()
            with StopRequest() as stop:
                while self.step < config.steps:
                    self._train_step()
                    self._after_step(stop)
        except KeyboardInterrupt as interruption:
            raise interruption if interruption.args else KeyboardInterrupt(self._unsaved()) from None
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            problem = f"{config.output_dir}: {error.strerror}: free some space"
            raise UserError(f"{problem}; {self._unsaved()}") from error
        finally:
            self._feed.close()
            if self._log is not None:
                self._log.close()
        return self._summary()

    def _open_log(self) -> None:
        """Drop what was logged and kept beyond the checkpoint, and go on from there."""
        config = self._config
        if not self._accelerator.is_main_process:
            return
        if self._run.checkpoint is not None:
            keep_only(config.output_dir, last=config.keep_last, best=config.keep_best)
        self._log = RunLog(
            config.output_dir,
            start_step=self.step,
            steps=config.steps,
            settings=self._run.settings,
            wandb=config.wandb,
        )

    def _unsaved(self) -> str:
        return (
            f"stopped in step {self.step + 1}; step {self._saved_step} is the last one saved; resume with: "
            f"{self._run.resume_command}"
        )

    def _train_step(self) -> None:
        config = self._config
        factor = learning_rate_factor(
            self.step,
            warmup_steps=config.optimizer.warmup_steps,
            steps=config.steps,
            final_fraction=config.optimizer.final_lr_fraction,
        )
        set_learning_rate(self._optimizer, factor)
        for _ in range(config.accumulation):
            before = time.perf_counter()
            batch = self._feed.next()
            self._meter.waited(time.perf_counter() - before)
            with self._accelerator.accumulate(self._model):
                loss, metrics = self._model(batch)
                self._accelerator.backward(loss)
                self._meter.add(metrics or {})
                self._meter.add_finite("loss", loss.detach(), self.step + 1)
                if self._accelerator.sync_gradients:
                    self._update()
        self.step += 1

    def _update(self) -> None:
        """Clip, take the optimizer's step, then what follows it."""
        clip = self._config.optimizer.grad_clip or float("inf")
        grad_norm: Any = self._accelerator.clip_grad_norm_(self._parameters, clip)
        self._meter.add_finite("grad_norm", grad_norm, self.step + 1)
        self._stepper.step()
        self._stepper.zero_grad()
        if self._average is not None:
            self._average.update(self.step)
        if self._trainable.after_step is not None:
            self._trainable.after_step()

    def _after_step(self, stop: StopRequest) -> None:
        config = self._config
        ends = self.step == config.steps
        if ends or self.step % config.log_freq == 0:
            self._write_log()
        if self._log is not None:
            self._log.advance()
        evaluates = config.eval_freq > 0 and (ends or self.step % config.eval_freq == 0)
        saves = ends or evaluates or self.step % config.save_freq == 0
        if not (self._stops(stop, saves) or saves):
            return
        before = time.perf_counter()
        card = UNEVALUATED
        failure: Exception | None = None
        try:
            if evaluates and not stop.requested:
                with stop.at_once():
                    card = self._evaluate()
        except StopNow:
            pass
        except Exception as error:  # a failing simulator must not cost the weights
            failure = error
        self._save(card)
        self._meter.pause(time.perf_counter() - before)
        self._paused += time.perf_counter() - before
        if stop.requested:
            raise KeyboardInterrupt(
                f"stopped after step {self.step}, which is saved; resume with: {self._run.resume_command}"
            )
        if failure is not None:
            self._report_failed_evaluation(failure)

    def _stops(self, stop: StopRequest, saves: bool) -> bool:
        """Whether to stop after this step; processes agree on it every few steps, and when they save."""
        if is_distributed():
            if not saves and self.step % STOP_CHECK:
                return False
            asked = torch.tensor(float(stop.requested), device=self._accelerator.device)
            dist.all_reduce(asked)
            stop.requested = bool(asked > 0)
        return stop.requested

    def _report_failed_evaluation(self, failure: Exception) -> None:
        """Raise UserError about it; where it happened goes to a file, for whoever has to mend it."""
        path = self._config.output_dir / EVALUATION_ERROR
        path.write_text("".join(traceback.format_exception(failure)), encoding="utf-8")
        reason = f"{type(failure).__name__}: {first_line(failure)}"
        raise UserError(
            f"the evaluation after step {self.step} failed ({reason}; see {path}); the step is saved; "
            f"continue with: {self._run.resume_command} (and --eval_freq=0 to do without evaluations)"
        ) from failure

    def _require_finite(self) -> None:
        bad = self._meter.first_bad_step()
        if bad is not None:
            raise self._not_finite("the loss or its gradient was", bad)

    def _require_finite_weights(self) -> None:
        """The last update may have broken them after a loss that was fine."""
        average = [] if self._average is None else self._average.average
        if not all(bool(tensor.isfinite().all()) for tensor in [*self._parameters, *average]):
            raise self._not_finite("the weights were", self.step)

    def _not_finite(self, what: str, step: int) -> UserError:
        good = last_checkpoint(self._config.output_dir)
        return UserError(
            f"{what} not finite at step {step}: expected numbers; check the data or lower "
            f"--optimizer.lr={self._config.optimizer.lr}; last good checkpoint: {good or 'none'}"
        )

    def _write_log(self) -> None:
        self._require_finite()
        self._last_row = {**self._meter.row(self.step), "lr": self._optimizer.param_groups[0]["lr"]}
        if self._log is not None:
            self._log.write(self.step, self._last_row)

    # --- evaluation and saving --------------------------------------------------------------------

    def _averaged(self) -> Any:
        return nullcontext() if self._average is None else self._average.applied()

    def _evaluate(self) -> dict[str, Any]:
        """Success in simulation with the averaged weights; the random generators are left as they were."""
        self._require_finite()
        evaluate = self._trainable.evaluate
        if evaluate is None or not self._accelerator.is_main_process:
            return UNEVALUATED
        generators = random_state()
        self._module.eval()
        try:
            with self._averaged():
                rows = evaluate(self._config.eval_episodes, self._config.eval_seed)
        finally:
            self._module.train()
            set_random_state(*generators)
        card = {"evaluated": True, "step": self.step, **summarise(rows)}
        rates = {f"success/{task['task']}": task["success_rate"] for task in card["tasks"]}
        if self._log is not None:
            self._log.write(self.step, {"success": card["success_rate"], **rates})
        self._evaluation = card
        return card

    def _save(self, card: dict[str, Any]) -> None:
        self._require_finite()
        self._require_finite_weights()
        self._accelerator.wait_for_everyone()
        metrics = self._meter.state()
        if not self._accelerator.is_main_process or self.step == self._saved_step:
            return
        if self._log is not None:
            self._log.flush()  # a checkpoint on disk vouches for the rows before it
        output_dir = self._config.output_dir
        with new_checkpoint(output_dir, self.step) as folder:
            with self._averaged():
                self._trainable.save(folder)
            write_json(folder / EVALUATION_CARD, card)
            write_json(folder / SPECIFICATION, self._trainable.specification)
            write_json(folder / PROVENANCE, provenance(dataset=self._run.dataset, seed=self._config.seed))
            save_training_state(
                folder,
                module=self._module,
                optimizer=self._optimizer,
                averaged=self._average is not None,
                metrics=metrics,
                values={"step": self.step, "loader": self._feed.state, "run": self._run.identity},
            )
        self._saved_step = self.step
        keep_only(output_dir, last=self._config.keep_last, best=self._config.keep_best)

    def _summary(self) -> dict[str, Any]:
        start = self._run.start_step
        samples = (self.step - start) * self._run.samples_per_step
        seconds = time.perf_counter() - self._started
        training_seconds = max(seconds - self._paused, 1e-9)
        return {
            "output_dir": str(self._config.output_dir),
            "checkpoint": str(last_checkpoint(self._config.output_dir)),
            "steps": self.step,
            "samples": self.step * self._run.samples_per_step,
            "parameters": sum(parameter.numel() for parameter in self._module.parameters()),
            "seconds": seconds,
            "samples_per_s": samples / training_seconds,
            "loss": self._last_row.get("loss"),
            "data_fraction": self._last_row.get("data_fraction"),
            "resumed_from": start if self._run.checkpoint is not None else None,
            "evaluation": self._evaluation,
        }


def _average_of(parameters: list[torch.nn.Parameter], config: TrainConfig) -> WeightAverage | None:
    decay = config.optimizer.ema_decay
    return WeightAverage(parameters, decay) if decay > 0 else None
