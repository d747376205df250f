"""Which requests are decided next: of every session the latest, of all sessions who waited longest.

A newer request takes the place of the older one of its session, since a robot is served by what it sees now;
it keeps that one's place in the line, so that asking often gains nothing and loses nothing.
"""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A request in line. group: only equal ones are decided together; times on one monotonic clock."""

    session: str
    sequence: int
    frame: bytes
    group: Hashable
    arrived: float
    expires: float


class Line:
    """At most one request per session, in the order in which sessions joined."""

    def __init__(self) -> None:
        self._waiting: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, request: Waiting) -> Waiting | None:
        """Take a request in; returns the older one of its session, whose place it takes."""
        older = self._waiting.get(request.session)
        self._waiting[request.session] = request
        return older

    def leave(self, session: str) -> None:
        """Forget what a session asked, if anything."""
        self._waiting.pop(session, None)

    def expire(self, now: float) -> list[Waiting]:
        """Take out whose deadline has passed."""
        expired = [request for request in self._waiting.values() if request.expires <= now]
        for request in expired:
            del self._waiting[request.session]
        return expired

    def take(self, most: int) -> list[Waiting]:
        """Take out the first in line and, up to `most` in all, those behind that are alike."""
        batch: list[Waiting] = []
        for request in self._waiting.values():
            if len(batch) < most and request.group == (batch or [request])[0].group:
                batch.append(request)
        for request in batch:
            del self._waiting[request.session]
        return batch
