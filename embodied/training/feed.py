"""From the loader to the model: batches fetched ahead, moved to the device, augmented, scaled, normalised."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from embodied.data.augment import augment
from embodied.data.windows import scale_images
from embodied.training.trainable import Batch

LoaderState = dict[str, int]


class Loader(Protocol):
    """An endless stream of batches whose place can be saved."""

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present cursor on."""
        ...

    def state(self) -> LoaderState:
        """Seed and cursor after the last batch given out."""
        ...


class Ahead:
    """Takes batches from a loader in a thread, `depth` ahead, page-locked for the copy to a GPU.

    Each batch comes with the loader's state after it, so that resuming skips no batch that was fetched but
    not used.
    """

    def __init__(self, loader: Loader, *, pin: bool, depth: int = 2) -> None:
        """pin: lock the batches' pages, which needs a GPU."""
        self._loader = loader
        self._batches = iter(loader)
        self._pin = pin
        self._depth = depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._pending: deque[Future[tuple[Batch, LoaderState]]] = deque()

    def __iter__(self) -> Iterator[tuple[Batch, LoaderState]]:
        """Batches in order; an error of the loader is raised at the batch it belongs to."""
        while True:
            while len(self._pending) <= self._depth:
                self._pending.append(self._pool.submit(self._fetch))
            yield self._pending.popleft().result()

    def close(self) -> None:
        """Stop the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _fetch(self) -> tuple[Batch, LoaderState]:
        batch = next(self._batches)
        if self._pin:
            batch = {key: _pinned(value) for key, value in batch.items()}
        return batch, self._loader.state()


class Directly:
    """Takes batches from a loader on demand: on a CPU a thread would only compete with the model."""

    def __init__(self, loader: Loader) -> None:
        """Wrap a loader."""
        self._loader = loader

    def __iter__(self) -> Iterator[tuple[Batch, LoaderState]]:
        """Batches in order, each with the loader's state after it."""
        for batch in self._loader:
            yield batch, self._loader.state()

    def close(self) -> None:
        """Nothing to stop."""


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, Tensor) else value


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


class Feed:
    """Batches ready for `forward`, and the data cursor after the last one."""

    def __init__(
        self,
        loader: Loader,
        *,
        device: torch.device,
        augmentation: str,
        preprocess: Callable[[Batch], Any],
    ) -> None:
        """augmentation: names of AUGMENTATIONS, applied to the pictures before they are scaled to [0, 1]."""
        self.state = loader.state()
        self._device = device
        self._augmentation = augmentation
        self._preprocess = preprocess
        self._source = Ahead(loader, pin=True) if device.type == "cuda" else Directly(loader)
        self._batches = iter(self._source)

    def next(self) -> Any:
        """The next batch, on the device, as `forward` takes it."""
        batch, self.state = next(self._batches)
        if self._device.type != "cpu":
            batch = {key: _to(value, self._device) for key, value in batch.items()}
        batch = augment(batch, self._augmentation, self._generator())
        return self._preprocess(scale_images(batch))

    def _generator(self) -> torch.Generator:
        """Seeded by the place in the stream, so that augmentation resumes with it."""
        seed = np.random.SeedSequence([self.state["seed"], self.state["cursor"]]).generate_state(1)[0]
        return torch.Generator().manual_seed(int(seed))

    def close(self) -> None:
        """Stop fetching."""
        self._source.close()
