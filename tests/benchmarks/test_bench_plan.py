"""The planning bench times every planner and number of candidates in turn, beside `reactive`."""

import pytest

from embodied.benchmarks import infer, plan
from embodied.benchmarks.plan import bench_plan
from embodied.config import BenchConfig


def test_every_setting_is_timed_equally_often_and_compared_with_reactive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timed: list[float] = []

    def time(decide, device):
        decide()
        timed.append([0.010, 0.015, 0.020, 0.030, 0.040][len(timed) % 5])
        return timed[-1]

    monkeypatch.setattr(infer, "_time", time)
    monkeypatch.setattr(plan, "CANDIDATES", (4, 16))
    result = bench_plan(BenchConfig(repeats=1, steps=2, image_size=32))
    assert len(timed) == 5 * (infer.WARM_UP + 2)
    names = ["reactive", "rank 4", "rank 16", "cem 4", "cem 16"]
    assert {name: row["p50"] for name, row in result["rows"].items()} == dict(
        zip(names, [10, 15, 20, 30, 40], strict=True)
    )
    assert result["rows"]["cem 16"]["times_reactive"] == 4
    assert result["turns"]["rank 4"] == [15, 15]
    assert result["ours"] == 20
    assert result["benchmark"] == "plan"
    assert "ratio" not in result


def test_the_policy_s_own_number_of_candidates_is_among_them() -> None:
    config = infer.untrained(32, "cpu", **infer.THINKING).config
    assert config.candidates in plan.CANDIDATES
    assert plan.setting_name(config.planner, config.candidates) == "rank 16"
