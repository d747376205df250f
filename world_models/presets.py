"""Sizes of world models: those that a policy holds and those that are trained alone share them.

So a policy of a preset can start from a world model of the same preset.
"""

from typing import Any


def tiny() -> dict[str, Any]:
    """About 2M parameters, for training on a 2-core CPU."""
    return {
        "tower": "strided24",
        "num_latents": 8,
        "latent_heads": 4,
        "dim": 192,
        "dynamics_depth": 3,
        "dynamics_heads": 4,
    }


def small() -> dict[str, Any]:
    """At most 9M parameters, for one GPU."""
    return {
        "tower": "resnet18",
        "num_latents": 8,
        "latent_heads": 8,
        "dim": 288,
        "dynamics_depth": 4,
        "dynamics_heads": 6,
    }


PRESETS = {"tiny": tiny, "small": small}
