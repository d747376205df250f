"""Which numbers a run computes in."""

from pathlib import Path

import pytest

from embodied.training import precision
from embodied.training.precision import choose_precision, cpu_flags


def test_the_first_processor_tells_the_features(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nflags\t\t: fpu amx_bf16 avx2\nprocessor : 1\nflags\t\t: fpu\n")
    assert {"fpu", "amx_bf16", "avx2"} <= cpu_flags(path)
    assert cpu_flags(tmp_path / "none") == set()


@pytest.mark.parametrize(
    ("flags", "asked", "expected"),
    [
        ({"amx_bf16"}, "auto", "bf16"),
        ({"avx512_bf16"}, "auto", "bf16"),
        ({"avx2"}, "auto", "no"),
        ({"amx_bf16"}, "no", "no"),
        ({"avx2"}, "bf16", "bf16"),
    ],
)
def test_bf16_is_chosen_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], asked: str, expected: str
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda information: flags)
    assert choose_precision(asked, "cpu") == expected
