"""Sizes of `latent_vla` by name; a world model of the same preset fits."""

from typing import Any

from world_models import presets


def tiny() -> dict[str, Any]:
    """About 4M parameters, for training on a 2-core CPU."""
    return {
        "backbone": "scratch",
        **presets.tiny(),
        "depth": 3,
        "heads": 4,
        "head_dim": 192,
        "head_depth": 3,
        "head_heads": 4,
        "action_tokens": 3,
    }


def small() -> dict[str, Any]:
    """At most 16M parameters, for one GPU."""
    return {
        "backbone": "scratch",
        **presets.small(),
        "depth": 6,
        "heads": 6,
        "head_dim": 288,
        "head_depth": 5,
        "head_heads": 6,
        "action_tokens": 12,
    }


def base() -> dict[str, Any]:
    """SmolVLM2-500M's vision tower and half of its language model, for one GPU."""
    return {
        "backbone": "pretrained",
        "vlm": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "vlm_layers": 16,
        "num_latents": 8,
        "latent_heads": 8,
        "dim": 512,
        "head_dim": 512,
        "head_depth": 8,
        "head_heads": 8,
        "action_tokens": 12,
        "dynamics_depth": 6,
        "dynamics_heads": 8,
        # Of no use to a pretrained backbone.
        "tower": "resnet18",
        "depth": 6,
        "heads": 8,
    }


PRESETS = {"tiny": tiny, "small": small, "base": base}
