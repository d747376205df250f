"""The bars of deployment: what was measured beside what is asked, and beside what is known of peers.

A result is told by the program that made it, the second word of its `command`. For a further one, name its
file in the README's comment; for a further kind, add a row to `BARS`.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from embodied.reporting.formats import percent

Result = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """what: is tried; asked: what has to hold; measured: what did; peers: what theirs do, "" if unknown."""

    what: str
    asked: str
    measured: Callable[[Result], str]
    peers: str = ""


def _worst(result: Result, measure: str) -> float:
    """The largest over all faults that have it, 0 if none has."""
    found = [one[measure]["worst"] for one in result["faults"].values() if one[measure] is not None]
    return max(found, default=0.0)


def _chaos(result: Result) -> str:
    kept, all_of_them = (
        sum(one[name] for one in result["faults"].values()) for name in ("kept", "repetitions")
    )
    return (
        f"{kept} of {all_of_them} episodes; at worst {_worst(result, 'hold_ticks'):.0f} ticks, "
        f"{_worst(result, 'hold_ms'):.0f} ms; again after {_worst(result, 'resume_s'):.2f} s; "
        f"the robot alone {_worst(result, 'robot_hold_ms'):.0f} ms"
    )


def _serving(result: Result) -> str:
    nobody, moved = result["beside"]["nobody"], result["p99_moved_by"]
    return (
        f"p99 {nobody['p99_ms']:.1f} ms, {100 * nobody['late_share']:.2f} % late; moved by "
        f"{percent(moved['a stalled reader'])} and {percent(moved['hostile peers'])}"
    )


def _delays(result: Result) -> str:
    costs = [cost for cost in result["costs"] if cost["arm"] == "rtc"]
    worst = min(costs, key=lambda cost: cost["low"])
    return (
        f"at worst {100 * worst['difference']:+.1f} points ({worst['condition']}; at least "
        f"{100 * worst['low']:+.1f}); {result['violations']} episodes broke a limit"
    )


def _soak(result: Result) -> str:
    grown = {name: lines["mb"]["per_hour"] for name, lines in result["processes"].items()}
    return ", ".join(f"{name} {per_hour:+.2f} MB" for name, per_hour in grown.items()) + " an hour"


BARS = {
    "chaos": Bar(
        what="server, network, client or cable gone in mid-episode",
        asked="holds within 2 ticks and 100 ms, runs again within 2 s; without its client within 200 ms",
        measured=_chaos,
        peers="none holds the robot when the server dies",
    ),
    "fuzz_wire": Bar(
        what="mutated and hand-written frames, both dialects",
        asked="no crash, under 50 MB more memory",
        measured=lambda result: (
            f"{result['frames']:,} frames, no crash, {result['memory_growth_mb']:+.1f} MB"
        ),
        peers="openpi: a frame of 100 bytes crashes it, no size limit; LeRobot: pickle over an open port "
        "(CVE-2026-25874)",
    ),
    "fuzz_safety": Bar(
        what="chunks of NaN, infinities, 1e38 and steps through the safety filter",
        asked="every command finite and within limits",
        measured=lambda result: (
            f"{result['chunks']:,} chunks, {result['commands']:,} commands, {result['violations']} violations"
        ),
        peers="LeRobot: `max_relative_target`, off by default; NaN passes through to the motors",
    ),
    "bench_serve": Bar(
        what="16 robots at 10 Hz over TLS, then beside a stalled reader and hostile peers",
        asked="p99 of 25 ms, 0.1 % late; moved by under 20 % and 100 %",
        measured=_serving,
        peers="openpi: inference blocks the event loop; GR00T: one client at a time; LeRobot: no TLS, no "
        "deadlines",
    ),
    "bench_serve_policy": Bar(
        what="robots that a real policy, `tiny`, decides for over TLS",
        asked="how many, with under 0.1 % late",
        measured=lambda result: f"{result['clients']} at {result['hz']:g} Hz",
    ),
    "bench_jitter": Bar(
        what="ticks at 30 Hz while inference saturates the processor",
        asked="99 of 100 at most 5 ms late",
        measured=lambda result: (
            f"p99 {result['tick_times']['behind']['p99_ms']:.1f} ms of {result['ticks']:,} ticks"
        ),
    ),
    "rtc_delay": Bar(
        what="decisions up to 300 ms late, and a spike of 1 s, with real-time chunking",
        asked="at most 5 points of success, within limits throughout",
        measured=_delays,
    ),
    "export_parity": Bar(
        what="episodes of an export beside its checkpoint's",
        asked="195 of 200 end alike",
        measured=lambda result: f"{result['identical']} of {result['episodes']}",
        peers="none exports a general policy with a parity gate",
    ),
    "kill_recorder": Bar(
        what="the recorder killed, the data set opened in stock LeRobot",
        asked="the running episode lost at most",
        measured=lambda result: f"{result['survived']} of {result['kills']} kills",
        peers="LeRobot: footers unwritten until `finalize()`, a crash loses the data set",
    ),
    "soak": Bar(
        what="an hour of visitors that come, go and misbehave",
        asked="less than 1 MB an hour",
        measured=_soak,
    ),
}


def _name(result: Result) -> str:
    program = PurePath(shlex.split(result["command"])[1]).stem
    return f"{program}_policy" if program == "bench_serve" and "clients_x_hz" in result else program


def bar_lines(results: Sequence[Result]) -> list[list[str]]:
    """A line per result, the header first. ValueError for one that no bar belongs to."""
    lines = [["what is tried", "asked", "measured", "peers"]]
    for result in results:
        name = _name(result)
        if name not in BARS:
            raise ValueError(f"{result['command']}: expected a result of one of {', '.join(BARS)}")
        bar = BARS[name]
        lines.append([bar.what, bar.asked, bar.measured(result), bar.peers])
    return lines
