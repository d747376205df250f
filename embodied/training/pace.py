"""How many steps fit into a time: measured by a few, noted once, so that arms can be given equal minutes.

The number of steps stays a number: training follows the learning-rate schedule of so many, resumes to the
same bits, and is as long for every seed, however busy the machine is by then.
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from embodied.config import TrainConfig
from embodied.manifest import read_json, write_json
from embodied.training.logs import METRICS_FILE
from embodied.training.loop import train

PROBE_STEPS = 40
"""Steps that are trained to measure; the first half of them only warms up."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Training for so many minutes. note: file that keeps the number of steps once it was measured."""

    minutes: float
    note: Path

    def noted(self) -> int | None:
        """The number of steps, None if it was not measured yet."""
        return read_json(self.note)["steps"] if self.note.is_file() else None

    def measure(self, config: TrainConfig) -> int:
        """The number of steps of `config` that fit, from the note or measured now."""
        noted = self.noted()
        if noted is not None:
            return noted
        probe = self.note.with_name(f"{self.note.stem}-probe")
        shutil.rmtree(probe, ignore_errors=True)  # of a measurement that was stopped
        half = PROBE_STEPS // 2
        changes = {"output_dir": probe, "steps": PROBE_STEPS, "log_freq": half, "save_freq": PROBE_STEPS}
        trained = train(dataclasses.replace(config, resume=False, **changes))
        last = (probe / METRICS_FILE).read_text(encoding="utf-8").splitlines()[-1]
        samples_per_step = trained["samples"] / trained["steps"]
        steps_per_s = json.loads(last)["samples_per_s"] / samples_per_step
        steps = max(1, round(60 * self.minutes * steps_per_s))
        write_json(self.note, {"minutes": self.minutes, "steps_per_s": steps_per_s, "steps": steps})
        shutil.rmtree(probe)
        return steps
