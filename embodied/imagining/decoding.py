"""A frame decoder for a checkpoint's latents: trained on its own data once, then read from a file.

Whole episodes are held out to say how well it draws, beside drawing the mean picture every time.
F frames, V cameras, K latent tokens, D width, H, W picture size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.processor import PolicyProcessorPipeline
from torch import Tensor
from tqdm import trange

from embodied.data.cache import FrameCache
from embodied.data.windows import gather_windows, scale_images
from embodied.evaluation.policy_loading import LoadedPolicy
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from policies.latent_vla.predicted_video import describe_decoder, load_decoder, save_decoder
from world_models.decoder import FrameDecoder
from world_models.encoders import stack_cameras

MOST_FRAMES = 2000
HELD_OUT = 0.1
"""Share of the episodes."""

AT_ONCE, BATCH, LEARNING_RATE = 64, 32, 2e-3


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Frames (F, V, 3, H, W) uint8 and their latents (F, K, D)."""

    frames: Tensor
    latents: Tensor


def decoder_for(
    loaded: LoadedPolicy, cache: FrameCache, *, checkpoint: str, folder: Path, steps: int, seed: int = 0
) -> tuple[FrameDecoder, dict[str, Any]]:
    """The decoder of a checkpoint and its description, from `folder` if it is there, else trained and kept.

    checkpoint: its SHA-256, which names the file; steps: of training. The description holds `file`,
    `checkpoint`, `dataset` (fingerprint), `steps`, `frames`, `held_out_frames`, `error` and `floor` (mean
    squared error, pictures in [0, 1], of drawn and of mean pictures) and `reused`.
    """
    path = folder / f"decoder-{checkpoint[:16]}.safetensors"
    identity = {"checkpoint": checkpoint, "dataset": cache.fingerprint, "steps": steps, "seed": seed}
    if path.is_file():
        description = describe_decoder(path)
        if {name: description.get(name) for name in identity} == identity:
            return load_decoder(path), {**description, "file": path.name, "reused": True}
    training, held_out = _draw_frames(cache, seed)
    learned, unseen = (encode_frames(loaded, cache, frames) for frames in (training, held_out))
    decoder = fit_decoder(learned, steps=steps, seed=seed, device=str(loaded[0].config.device))
    description = {
        **identity,
        "frames": len(training),
        "held_out_frames": len(held_out),
        **reconstruction(decoder, unseen),
    }
    save_decoder(decoder, path, description)
    return decoder, {**description, "file": path.name, "reused": False}


def _draw_frames(cache: FrameCache, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames to train on and frames of episodes that are held out; of a single episode its last frames."""
    draw = np.random.default_rng(seed)
    episodes = draw.permutation(cache.episodes)
    owner = cache.columns["episode_index"][cache.frames]
    if len(episodes) > 1:
        is_held_out = np.isin(owner, episodes[: max(1, round(HELD_OUT * len(episodes)))])
    else:
        is_held_out = np.arange(len(owner)) >= (1 - HELD_OUT) * len(owner)
    chosen = [cache.frames[~is_held_out], cache.frames[is_held_out]]
    limits = (MOST_FRAMES, round(HELD_OUT * MOST_FRAMES))
    training, held_out = (
        np.sort(draw.choice(frames, size=min(limit, len(frames)), replace=False))
        for frames, limit in zip(chosen, limits, strict=True)
    )
    return training, held_out


@torch.inference_mode()
def encode_frames(loaded: LoadedPolicy, cache: FrameCache, frames: np.ndarray) -> Seen:
    """Look at frames of a data set with the policy's own preprocessor and encoder."""
    policy, preprocessor, _ = loaded
    assert isinstance(policy, LatentVLAPolicy)
    cameras = list(policy.config.image_features)
    latents = [
        _encode(policy, preprocessor, scale_images(gather_windows(cache, part, {})), cameras)
        for part in np.array_split(frames, max(1, len(frames) // AT_ONCE))
    ]
    pictures = np.stack([cache.images[name][frames] for name in cameras], axis=1)
    return Seen(frames=torch.from_numpy(pictures).movedim(-1, -3), latents=torch.cat(latents))


def _encode(
    policy: LatentVLAPolicy,
    preprocessor: PolicyProcessorPipeline,
    observation: Mapping[str, Any],
    cameras: list[str],
) -> Tensor:
    batch = preprocessor(dict(observation))
    return policy.encoder.encode(stack_cameras([batch[key] for key in cameras])).float().cpu()


def fit_decoder(seen: Seen, *, steps: int, seed: int, device: str = "cpu") -> FrameDecoder:
    """Train a decoder; the random state of others is left alone. Returns it on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = FrameDecoder(
            tokens=seen.latents.shape[1],
            dim=seen.latents.shape[2],
            cameras=seen.frames.shape[1],
            height=seen.frames.shape[3],
            width=seen.frames.shape[4],
        )
    decoder.measure(seen.latents, seen.frames)
    decoder.to(device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    for _ in trange(steps, desc="decoder", unit="step"):
        rows = torch.randint(len(seen.latents), (min(BATCH, len(seen.latents)),), generator=generator)
        frames = seen.frames[rows].to(device).float() / 255
        loss, _ = decoder({"latents": seen.latents[rows].to(device), "frames": frames})
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return decoder.cpu().eval()


def reconstruction(decoder: FrameDecoder, seen: Seen) -> dict[str, float]:
    """Mean squared `error` of drawn pictures in [0, 1], and the `floor`, drawing the mean picture always."""
    errors, floors = [], []
    for latents, frames in zip(seen.latents.split(AT_ONCE), seen.frames.split(AT_ONCE), strict=True):
        real = frames.float() / 255
        errors.append((decoder.decode(latents) - real).square().mean((1, 2, 3, 4)))
        floors.append((decoder.mean_picture - real).square().mean((1, 2, 3, 4)))
    return {"error": torch.cat(errors).mean().item(), "floor": torch.cat(floors).mean().item()}
