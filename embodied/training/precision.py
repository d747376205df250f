"""In which numbers a model is trained: mixed with bf16 where the device computes in it itself, else float32.

Emulated, bf16 is the slower: on a CPU of two cores without such a unit a step took five times as long.
"""

from pathlib import Path

import torch

BF16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}


def choose_precision(asked: str, device: str | None) -> str:
    """`asked`, one of `config.PRECISIONS`, with `auto` replaced by what suits the device."""
    if asked != "auto":
        return asked
    return "bf16" if bf16_unit(device) else "no"


def bf16_unit(device: str | None = None) -> str | None:
    """What computes in bf16 on a device, the best one present if None; None if it is emulated there."""
    if torch.cuda.is_available() and device != "cpu":
        return "CUDA" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    flags = cpu_flags(Path("/proc/cpuinfo"))
    return next((unit for flag, unit in BF16_UNITS.items() if flag in flags), None)


def cpu_flags(information: Path) -> set[str]:
    """The features that Linux lists for the first processor; empty where there is no such file."""
    if not information.is_file():
        return set()
    lines = information.read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())
