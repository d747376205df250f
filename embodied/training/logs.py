"""What a run tells while it trains: JSON lines, TensorBoard, wandb if asked for, and a progress bar.

Everything is written in the training thread, unbuffered, so that a full disk is an error of the step it
happened in, and a row that was written outlives a kill.
"""

import json
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from embodied.errors import UserError
from embodied.manifest import TEMPORARY_PREFIX

METRICS_FILE = "metrics.jsonl"


class Appended:
    """A file that only grows; every write is with the operating system, or has failed, when it returns."""

    def __init__(self, path: Path) -> None:
        """Open or create the file."""
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append all of `data`; after an OSError a part of it may be there."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Wait until the disk has everything."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MetricSink(Protocol):
    """Somewhere metrics are written to."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Record the values of one step."""
        ...

    def flush(self) -> None:
        """Make sure that what was written outlives a loss of power."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...


class JsonLines:
    """`metrics.jsonl`: one object per log line. Lines of steps after `start_step` are dropped on resume."""

    def __init__(self, output_dir: Path, start_step: int) -> None:
        """Open for appending, keeping what was logged up to `start_step`."""
        path = output_dir / METRICS_FILE
        if path.is_file():
            kept = "".join(line + "\n" for line in _lines_up_to(path, start_step))
            rewritten = path.with_name(f"{TEMPORARY_PREFIX}{METRICS_FILE}")
            rewritten.write_text(kept, encoding="utf-8")
            os.replace(rewritten, path)
        self._file = Appended(path)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append one line; numbers that are not finite become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write((json.dumps({"step": step, **finite}) + "\n").encode())

    def flush(self) -> None:
        """Flush to disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines_up_to(path: Path, step: int) -> list[str]:
    """Complete lines of steps up to `step`; a line cut off by a kill ends the list."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if row["step"] <= step:
            lines.append(line)
    return lines


class TensorBoard:
    """Event files under `<output_dir>/tensorboard`, one per process that trained.

    TensorBoard's own writer does this in a thread, which hides a full disk until it is too late.
    """

    def __init__(self, output_dir: Path, start_step: int) -> None:
        """Open; points of steps after `start_step` are hidden on resume."""
        folder = output_dir / "tensorboard"
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appended(folder / name)
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        self._add(Event(step=start_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point per value."""
        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=points)))

    def flush(self) -> None:
        """Flush to disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the event file."""
        self._file.close()


class Wandb:
    """Weights & Biases, written below `<output_dir>/wandb`; uploads only if WANDB_MODE=online says so."""

    def __init__(self, output_dir: Path, settings: dict[str, Any]) -> None:
        """Start or continue this output folder's run; UserError if wandb is not installed."""
        try:
            import wandb
        except ImportError as error:
            raise UserError("--wandb=true: wandb is not installed: expected `pip install wandb`") from error
        self._run = wandb.init(
            project="embodied",
            name=output_dir.name,
            dir=output_dir,
            config=settings,
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log the values at the step."""
        self._run.log(values, step=step)

    def flush(self) -> None:
        """Its own process sees to that."""

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class RunLog:
    """All sinks and the progress bar of one run."""

    def __init__(
        self, output_dir: Path, *, start_step: int, steps: int, settings: dict[str, Any], wandb: bool
    ) -> None:
        """Open the sinks; start_step is the step resumed from, 0 for a new run."""
        self._sinks: list[MetricSink] = [Wandb(output_dir, settings)] if wandb else []
        self._sinks += [JsonLines(output_dir, start_step), TensorBoard(output_dir, start_step)]
        # A terminal is redrawn often; a log file gets a line every half minute.
        interval = 0.2 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=steps,
            initial=start_step,
            desc=output_dir.name,
            unit="step",
            mininterval=interval,
            maxinterval=interval,
        )

    def advance(self) -> None:
        """One step is done."""
        self._bar.update(1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Send one row of values to every sink and the headline to the bar."""
        for sink in self._sinks:
            sink.write(step, values)
        if "loss" in values:
            headline = f"loss {values['loss']:.4g}, {values['samples_per_s']:.0f} samples/s"
            self._bar.set_postfix_str(headline, refresh=False)

    def flush(self) -> None:
        """Make sure that every row so far outlives a loss of power."""
        for sink in self._sinks:
            sink.flush()

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        """Close the bar and every sink."""
        self._bar.close()
        for sink in self._sinks:
            sink.close()
