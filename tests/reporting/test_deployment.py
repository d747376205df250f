"""The README's table of deployment: the worst that was measured stands beside what is asked."""

import pytest

from embodied.reporting.deployment import BARS, bar_lines

SPREAD = {"median": 1.0, "worst": 2.0}
FAULT = {"kept": 30, "repetitions": 30, "hold_ticks": SPREAD, "hold_ms": None, "resume_s": None}
COST = {"arm": "rtc", "condition": "300 ms", "difference": -0.01, "low": -0.03}
RESULTS = {
    "chaos": (
        {
            "faults": {
                "server_killed": {**FAULT, "robot_hold_ms": None, "hold_ms": {"median": 9.0, "worst": 65.4}},
                "client_killed": {**FAULT, "kept": 29, "robot_hold_ms": {"median": 1.0, "worst": 183.0}},
            }
        },
        "59 of 60 episodes; at worst 2 ticks, 65 ms; again after 0.00 s; the robot alone 183 ms",
    ),
    "fuzz_wire": (
        {"frames": 1000000, "memory_growth_mb": 0.07},
        "1,000,000 frames, no crash, +0.1 MB",
    ),
    "fuzz_safety": (
        {"chunks": 10, "commands": 2000, "violations": 0},
        "10 chunks, 2,000 commands, 0 violations",
    ),
    "bench_serve": (
        {
            "beside": {"nobody": {"p99_ms": 11.26, "late_share": 0.0002}},
            "p99_moved_by": {"a stalled reader": 0.08, "hostile peers": 0.5},
        },
        "p99 11.3 ms, 0.02 % late; moved by 8 % and 50 %",
    ),
    "bench_serve_policy": ({"clients": 23, "hz": 10.0, "clients_x_hz": 230.0}, "23 at 10 Hz"),
    "bench_jitter": (
        {"tick_times": {"behind": {"p99_ms": 3.21}}, "ticks": 18000},
        "p99 3.2 ms of 18,000 ticks",
    ),
    "rtc_delay": (
        {"costs": [COST, {**COST, "low": -0.01}, {**COST, "arm": "sync", "low": -0.5}], "violations": 0},
        "at worst -1.0 points (300 ms; at least -3.0); 0 episodes broke a limit",
    ),
    "export_parity": ({"identical": 199, "episodes": 200}, "199 of 200"),
    "kill_recorder": ({"survived": 50, "kills": 50}, "50 of 50 kills"),
    "soak": ({"processes": {"server": {"mb": {"per_hour": 0.314}}}}, "server +0.31 MB an hour"),
}


@pytest.mark.parametrize("program", BARS)
def test_what_was_measured_stands_beside_what_is_asked(program: str) -> None:
    result, measured = RESULTS[program]
    command = (
        "embodied chaos --null"
        if program == "chaos"
        else f"python scripts/{program.removesuffix('_policy')}.py --seed=1"
    )
    head, line = bar_lines([{**result, "command": command}])
    assert head == ["what is tried", "asked", "measured", "peers"]
    assert line == [BARS[program].what, BARS[program].asked, measured, BARS[program].peers]


def test_a_result_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"python scripts/x.py: expected a result of one of chaos, fuzz"):
        bar_lines([{"command": "python scripts/x.py"}])
