"""A LeWorldModel that takes no time."""

from typing import Any

SMALL: dict[str, Any] = {
    "dim": 16,
    "patch_size": 8,
    "encoder_depth": 1,
    "encoder_heads": 2,
    "dynamics_depth": 1,
    "dynamics_heads": 2,
    "hidden": 32,
    "directions": 16,
    "chunk_steps": 2,
}
