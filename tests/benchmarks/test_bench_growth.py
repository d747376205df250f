"""The growth bench times every setting in turn; the report draws what it found."""

from dataclasses import replace
from pathlib import Path

import pytest

from embodied.benchmarks import growth, infer
from embodied.benchmarks.growth import AXES, bench_growth
from embodied.config import BenchConfig
from embodied.reporting.run_folder import read_run
from embodied.reporting.speed import speed
from tests.reporting.conftest import write_json


@pytest.fixture
def small_axes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Two values of each thing that grows, and the times of what was timed: 1 ms, 2 ms, ... in every turn."""
    timed: list[float] = []
    axes = {name: replace(axis, values=axis.values[:2]) for name, axis in AXES.items()}

    def time(decide, device):
        decide()
        timed.append(0.001 * (1 + len(timed) % 10))
        return timed[-1]

    monkeypatch.setattr(growth, "AXES", axes)
    monkeypatch.setattr(infer, "_time", time)
    return timed


def test_every_setting_is_timed_equally_often(small_axes: list[float]) -> None:
    result = bench_growth(BenchConfig(repeats=1, steps=2, image_size=32))
    assert len(small_axes) == 10 * (infer.WARM_UP + 2)
    found = {name: [(row["value"], row["p50"]) for row in rows] for name, rows in result["growth"].items()}
    assert found["picture size, pixels"] == [(48, 1), (96, 2)]
    assert found["cameras"] == [(1, 3), (2, 4)]
    assert found["layers of the backbone"] == [(2, 9), (3, 10)]
    small, large = (row["parameters"] for row in result["growth"]["layers of the backbone"])
    assert small < large
    assert result["picture"] == [32, 32]


def test_every_value_gives_a_policy_that_decides() -> None:
    """Of the settings that are measured, those that a test can afford: the largest of each but pictures."""
    for name, axis in AXES.items():
        setting = axis.setting(axis.values[0 if name.startswith("picture") else -1], 32)
        chunk = growth._decider(growth._policy(setting, "cpu"), setting, "cpu")()
        assert len(chunk) == setting.batch
        assert chunk.shape[1] == setting.policy.get("chunk_size", chunk.shape[1])


def test_the_report_draws_growth_and_candidates(tmp_path: Path) -> None:
    grown = {"cameras": [{"value": 1, "p50": 10.0, "p95": 11.0}, {"value": 2, "p50": 14.0, "p95": 15.0}]}
    write_json(tmp_path / "growth.json", {"benchmark": "growth", "unit": "ms", "growth": grown})
    rows = {name: {"p50": time} for name, time in {"reactive": 9.0, "rank 4": 20.0, "cem 4": 50.0}.items()}
    write_json(tmp_path / "plan.json", {"benchmark": "plan", "unit": "ms", "rows": rows})
    write_json(tmp_path / "other.json", {"benchmark": "train", "unit": "ms", "rows": {}})
    page = speed(read_run(tmp_path), 0)
    assert page is not None
    assert "10 at cameras 1, 14 at cameras 2" in page
    assert "rank: 20 at candidates 4" in page
    assert "cem: 50 at candidates 4" in page
    assert page.count("<figure") == 2
