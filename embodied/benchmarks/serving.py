"""What a server holds: answers in time beside bad neighbours, and how many robots one policy has time for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from embodied.serving.load import Credentials, Load, Measured, measure
from embodied.serving.specification import Specification

LATE = 0.001
"""Share of requests: from so many on, a load is not held."""

P99_MS = 25.0
MOST = 256
"""Robots to try."""

MOVED = {"a stalled reader": 0.2, "hostile peers": 1.0}
"""By how much, at most, a neighbour may move the p99."""


def beside_neighbours(url: str, policy: Specification, files: Credentials, load: Load) -> dict[str, Any]:
    """Latency beside neighbours, each twice and in turn.

    Returns `ok`, `beside` (what `Measured.summary` gives, by neighbour), `p99_moved_by` and the load.
    """
    phases = {name: Measured() for name in ("nobody", *MOVED, "a crowd")}
    for name in [*phases, *phases]:
        phases[name].add(measure(url, policy, files, load, beside=name))
    rows = {name: measured.summary() for name, measured in phases.items()}
    moved = {name: row["p99_ms"] / rows["nobody"]["p99_ms"] - 1 for name, row in rows.items()}
    is_fast = rows["nobody"]["p99_ms"] <= P99_MS and rows["nobody"]["late_share"] < LATE
    ok = is_fast and all(moved[name] < share for name, share in MOVED.items())
    for name, row in rows.items():
        print(f"{name:20}", "   ".join(f"{what} {value:.4g}" for what, value in row.items()))
    return {"ok": ok, "beside": rows, "p99_moved_by": moved, **vars(load)}


def clients_held(
    url: str, policy: Specification, files: Credentials, load: Load, requests: int
) -> dict[str, Any]:
    """The largest number of robots, up to `MOST`, that ask as often as the load says with under `LATE` late.

    Each number is tried for as long as it says, or longer, until they have asked `requests` times. Returns
    `ok`, `clients`, `clients_x_hz` and `tried` (what `Measured.summary` gives, by the number of robots).
    """
    tried: dict[int, dict[str, float]] = {}

    def holds(clients: int) -> bool:
        seconds = max(load.seconds, requests / (clients * load.hz))
        trial = replace(load, clients=clients, seconds=seconds)
        tried[clients] = row = measure(url, policy, files, trial).summary()
        print(
            f"{clients:4} robots",
            "   ".join(f"{what} {value:.4g}" for what, value in row.items()),
            flush=True,
        )
        return row["late_share"] < LATE

    held = most_clients(holds, limit=MOST)
    return {"ok": held > 0, "clients": held, "hz": load.hz, "clients_x_hz": held * load.hz, "tried": tried}


def most_clients(holds: Callable[[int], bool], *, limit: int) -> int:
    """The largest number of clients, up to `limit`, that is held: doubled until it is not, then bisected.

    0 if not even one is.
    """
    held, broken = 0, 1
    while broken <= limit and holds(broken):
        held, broken = broken, min(2 * broken, max(limit, broken + 1))
    while broken - held > 1:
        middle = (held + broken) // 2
        held, broken = (middle, broken) if holds(middle) else (held, middle)
    return held
