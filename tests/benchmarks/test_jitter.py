"""The short form of scripts/bench_jitter.py; whether the bar is met is not for a shared machine to say."""

import os

import pytest

from embodied.benchmarks.jitter import bench_jitter


@pytest.mark.slow
@pytest.mark.render
def test_the_loop_ticks_while_inference_takes_all_it_can_get() -> None:
    result = bench_jitter(seconds=3.0, policy=None, port=f"jitter-{os.getpid()}")
    assert 60 <= result["ticks"] <= 92
    assert result["decisions"] >= 3
    assert result["tick_times"]["behind"]["p50_ms"] < 33.4
    assert result["tick_times"]["behind"]["max_ms"] > 0
