"""What a run measures between two log lines: metrics, speed, and whether every loss was a number.

Values are gathered on their own device and read once per log line or checkpoint: no step waits for them.
"""

import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from world_models.parallel import is_distributed


class Meter:
    """Means of metrics, samples per second and the share of time spent on data, since the last row."""

    def __init__(self, device: torch.device, step: int, samples_per_step: int) -> None:
        """device: where losses live; step: steps already done."""
        self._samples_per_step = samples_per_step
        self._first_bad = torch.full((), -1, dtype=torch.long, device=device)
        self._begin(step)

    def _begin(self, step: int) -> None:
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}
        self._step = step
        self._start = time.perf_counter()
        self._data_seconds = 0.0

    def add(self, metrics: dict[str, Any]) -> None:
        """Take in one batch's metrics: numbers and one-element tensors. Anything else is not a metric."""
        for name, value in metrics.items():
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.detach().reshape(())
            elif not isinstance(value, (int, float)):
                continue
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def add_finite(self, name: str, value: Tensor, step: int) -> None:
        """Take in a metric that must be finite; the first step at which it is not is kept."""
        self.add({name: value})
        fine = torch.isfinite(value) | (self._first_bad >= 0)
        self._first_bad = torch.where(fine, self._first_bad, step)

    def first_bad_step(self) -> int | None:
        """The first step with NaN or infinity, None if there was none. Waits for the device."""
        step = int(self._first_bad)
        return step if step >= 0 else None

    def waited(self, seconds: float) -> None:
        """Time spent on getting a batch ready."""
        self._data_seconds += seconds

    def start(self) -> None:
        """Count time from now."""
        self._start = time.perf_counter()

    def pause(self, seconds: float) -> None:
        """Time spent on something else than training, which counts for nothing."""
        self._start += seconds

    def state(self) -> dict[str, Tensor]:
        """The running sums, so that a row whose steps lie on both sides of a stop is that of one run.

        All processes must ask for it.
        """
        kept = {f"count/{name}": torch.tensor(count) for name, count in self._counts.items()}
        for name, total in self._joint_sums().items():
            if isinstance(total, Tensor):
                kept[f"tensor/{name}"] = total
            else:
                kept[f"number/{name}"] = torch.tensor(total, dtype=torch.float64)
        return kept

    def _joint_sums(self) -> dict[str, float | Tensor]:
        """The running sums, averaged over the processes that train together."""
        if not is_distributed() or not self._sums:
            return self._sums
        device = self._first_bad.device
        own = torch.stack([torch.as_tensor(total, device=device).float() for total in self._sums.values()])
        dist.all_reduce(own)
        return dict(zip(self._sums, (own / dist.get_world_size()).unbind(), strict=True))

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from sums that `state` gave; time is counted from now."""
        for key, value in state.items():
            kind, name = key.split("/", 1)
            if kind == "count":
                self._counts[name] = int(value)
            else:
                total = value.to(self._first_bad.device)
                self._sums[name] = total if kind == "tensor" else float(value)

    def row(self, step: int) -> dict[str, float]:
        """Metrics' means over the batches in which they appeared, speed, share of data; then begin afresh.

        All processes must ask for it.
        """
        means = {name: float(total) / self._counts[name] for name, total in self._joint_sums().items()}
        seconds = time.perf_counter() - self._start
        samples = (step - self._step) * self._samples_per_step
        share = self._data_seconds / seconds
        self._begin(step)
        return {**means, "samples_per_s": samples / seconds, "data_fraction": share}
