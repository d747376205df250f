"""Numbers as people read them: few digits, thousands separated, a unit that fits the size."""

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def percent(rate: float) -> str:
    """0.5 as `50 %`."""
    return f"{100 * rate:.0f} %"


def interval(low: float, high: float) -> str:
    """0.91 and 1.0 as `91 to 100 %`."""
    return f"{100 * low:.0f} to {percent(high)}"


def number(value: float) -> str:
    """Three significant digits: 25677 as `25,677`, 0.01082 as `0.0108`, 0.00034227 as `3.42e-4`."""
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    if abs(value) >= 1e-3:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def parameters(count: float) -> str:
    """3872816 as `3.9M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """45 as `45 s`, 1712 as `29 min`, 3900 as `1 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(count: int) -> str:
    """Bytes in 10^6, to one digit: 15000000 as `15.0 MB`."""
    return f"{count / 1e6:.1f} MB"


def span(values: list[int]) -> str:
    """Whole numbers, the runs of successive ones shortened: [1, 2, 3, 7] as `1 to 3, 7`."""
    runs: list[list[int]] = []
    for value in sorted(set(values)):
        if runs and value == runs[-1][-1] + 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return ", ".join(" to ".join(map(str, run)) for run in runs)


def machine(described: Mapping[str, Any] | str) -> str:
    """A machine in one line, from what `embodied.training.provenance.machine` or `run_origin` says."""
    if isinstance(described, str):
        return described
    parts = [
        *described.get("accelerators", []),
        described.get("cpu"),
        f"{described['cores']} cores" if described.get("cores") else None,
        f"threads in use: {described['threads']}" if described.get("threads") else None,
        described.get("system"),
    ]
    return ", ".join(str(part) for part in parts if part)


def command(line: str) -> str:
    """A command line as it is typed: the path of the program is cut down to its name."""
    program, *arguments = shlex.split(line) or [""]
    name = PurePath(program).name
    words = ["python", "-m", "embodied.cli"] if name == "cli.py" else [name]
    return shlex.join([*words, *arguments])
