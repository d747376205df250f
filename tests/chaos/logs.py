"""Logs written by hand: a loop of 30 Hz that moves its first joint by a degree a tick, and its motors'."""

from typing import Any

from embodied.chaos.checks import Row

TICK = 1 / 30
BEGIN = 100.0
STALE = 1.0
SPENT = 0.002
"""Seconds from a tick's beginning to its command."""


def tick_log(states: str, *, left: list[int] | None = None, looked: float = BEGIN) -> list[Row]:
    """A tick for each letter: `r`un, `d`egraded, `h`old, `s`top; left: actions that are, many if None."""
    names = {"r": "run", "d": "degraded", "h": "hold", "s": "stop"}
    rows: list[Row] = [{"event": "start", "time": BEGIN, "fps": 30.0, "overdue": 0.5, "stale": STALE}]
    position = 0.0
    for number, letter in enumerate(states):
        # The first steps are within the acceleration limit; braking from a degree a tick is done at once.
        position += 1.0 if letter in "rd" else 0.0
        rows.append(
            {
                "event": "tick",
                "time": BEGIN + number * TICK,
                "sent": BEGIN + number * TICK + SPENT,
                "state": names[letter],
                "reason": "the queue is empty" if letter == "h" else "decision",
                "looked": looked,
                "left": 9 if left is None else left[number],
                "command": [position, *[0.0] * 5],
            }
        )
    return rows


def motor_log(ticks: list[Row]) -> list[Row]:
    """What the motors of a robot report that gets every command of a tick log, and follows it at once."""
    rows: list[Row] = [{"event": "reset", "time": BEGIN - 1, "seed": 0}]
    rows.append(motor_tick(0, BEGIN - TICK, "hold", 0, [0.0] * 6))
    for number, row in enumerate((row for row in ticks if row["event"] == "tick"), start=1):
        target = list(row["command"])
        rows.append({"event": "command", "time": row["sent"], "sequence": number, "target": target})
        rows.append(motor_tick(number, row["sent"] + 0.01, "command", number, target))
    return rows


def motor_tick(tick: int, time: float, source: str, sequence: int, target: list[float]) -> dict[str, Any]:
    return {
        "event": "tick",
        "time": time,
        "tick": tick,
        "source": source,
        "sequence": sequence,
        "target": target,
        "position": [0.0] * 6,
    }
