"""Pictures of a policy's latents: frame decoders in files, and films for LeRobot's hook for predicted video.

`embodied imagine` trains a decoder for one checkpoint. LeRobot's evaluation asks a policy whose configuration
says `save_predicted_video` for `last_predicted_latents` after every action, joins them along their third
dimension, and writes what `decode_predicted_latents` makes of them beside the films of its episodes.

B environments, F frames, K latent tokens, D width, V cameras, H, W picture size.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from world_models.decoder import FrameDecoder


def save_decoder(decoder: FrameDecoder, path: Path, description: dict[str, Any]) -> None:
    """Write a decoder, whole or not at all; description: JSON values that `describe_decoder` gives back."""
    partial = path.with_name(f".tmp-{path.name}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in decoder.state_dict().items()}
    save_file(tensors, partial, metadata={"description": json.dumps(description)})
    partial.replace(path)


def describe_decoder(path: Path) -> dict[str, Any]:
    """What `save_decoder` was told of a decoder; ValueError for a file that is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["description"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: expected a decoder that `embodied imagine` wrote ({error})") from error


def load_decoder(path: Path) -> FrameDecoder:
    """Read a decoder onto the CPU; ValueError for a file that is none."""
    describe_decoder(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    tokens, dim = tensors["latent_mean"].shape
    cameras, _, height, width = tensors["mean_picture"].shape
    decoder = FrameDecoder(tokens=tokens, dim=dim, cameras=cameras, height=height, width=width)
    decoder.load_state_dict(tensors)
    return decoder.eval()


def film(decoder: FrameDecoder, latents: Tensor) -> Tensor:
    """The first environment's latents (B, K, F, D) as pictures (F, H, V * W, 3), uint8, cameras abreast."""
    frames = torch.cat([decoder.decode(part) for part in latents[0].transpose(0, 1).cpu().split(64)])
    return (frames * 255).round().byte().permute(0, 3, 1, 4, 2).flatten(2, 3)
