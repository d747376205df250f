"""The inference bench times every mode and its peer in turn."""

from embodied.benchmarks import infer
from embodied.benchmarks.infer import PEER, bench_infer
from embodied.config import BenchConfig


def test_every_mode_and_the_peer_are_timed_equally_often(monkeypatch) -> None:
    timed: list[float] = []

    def time(decide, device):
        decide()
        timed.append([0.010, 0.012, 0.020, 0.030][len(timed) % 4])
        return timed[-1]

    monkeypatch.setattr(infer, "_time", time)
    result = bench_infer(BenchConfig(repeats=1, steps=2, image_size=32))
    assert len(timed) == 4 * (infer.WARM_UP + 2)
    assert [row["p50"] for row in result["rows"].values()] == [10, 12, 20, 30]
    assert result["rows"]["plan"]["times_reactive"] == 2
    assert (result["ours"], result["peer"], result["ratio"]) == (10, result["rows"][PEER]["p50"], 3)
