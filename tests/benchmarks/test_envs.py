import pytest

from embodied.benchmarks.envs import bench_envs
from embodied.config import BenchConfig


@pytest.mark.render
@pytest.mark.slow
def test_the_bench_reports_both_rates_and_the_ratio_of_their_pairs() -> None:
    result = bench_envs(BenchConfig(repeats=1, steps=4, image_size=32))
    (pair,) = result["pairs"]
    assert result["ours"] == pair["ours"] > 0
    assert result["peer"] == pair["peer"] > 0
    assert result["ratio"] == pytest.approx(pair["ours"] / pair["peer"])
    assert "image observations per second" in result["unit"]
    assert (result["ours_picture"], result["peer_picture"]) == ([32, 32], [480, 480])
