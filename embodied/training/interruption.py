"""SIGINT and SIGTERM ask training to finish its step and save, instead of ending it in the middle."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class StopNow(BaseException):
    """Raised by the first signal inside `StopRequest.at_once`."""


class StopRequest:
    """Context in which the first signal only sets `requested`; a second one acts as usual."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.requested = False
        self._is_at_once = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals over; in other threads than the main one Python does not allow it."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal end the block too, by StopNow: for work that takes minutes and can be left."""
        self._is_at_once = True
        try:
            yield
        finally:
            self._is_at_once = False

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()
        if self._is_at_once:
            raise StopNow
