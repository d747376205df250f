"""Frame decoder: pictures of what latents hold, for people to look at.

Trained afterwards, on the latents of an encoder that stays as it is, and never part of another model's loss:
what its pictures show was in the latents anyway. It draws the difference to the mean picture of its data, the
floor that it has to beat. Convolutions between nearest-neighbour upsamplings, which leave no chequerboard
(Odena et al. 2016, doi.org/10.23915/distill.00003).

B batch, F frames, K latent tokens, D width, V cameras, H, W picture size.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 64, 48, 32)
"""Channels of the coarsest grid, and after each upsampling by 2; the last doubling is the drawing's own."""

SCALE = 2 ** len(WIDTHS)


class FrameDecoder(nn.Module):
    """From latents (B, K, D) to frames (B, V, 3, H, W)."""

    def __init__(self, *, tokens: int, dim: int, cameras: int, height: int, width: int) -> None:
        super().__init__()
        self.cameras = cameras
        self.grid = (-(-height // SCALE), -(-width // SCALE))
        self.spread = nn.Linear(tokens * dim, WIDTHS[0] * self.grid[0] * self.grid[1])
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(WIDTHS))
        self.draw = nn.Conv2d(WIDTHS[-1], cameras * 3 * 4, 3, padding=1)
        # Before the first update it draws the mean picture.
        nn.init.zeros_(self.draw.weight)
        assert self.draw.bias is not None
        nn.init.zeros_(self.draw.bias)
        self.mean_picture: Tensor
        self.register_buffer("mean_picture", torch.zeros(cameras, 3, height, width))
        self.latent_mean: Tensor
        self.register_buffer("latent_mean", torch.zeros(tokens, dim))
        self.latent_scale: Tensor
        self.register_buffer("latent_scale", torch.ones(()))

    def measure(self, latents: Tensor, frames: Tensor) -> None:
        """Take over the scale of the latents (F, K, D) and the mean of the frames (F, V, 3, H, W), uint8."""
        self.latent_mean.copy_(latents.mean(0))
        self.latent_scale.copy_((latents - latents.mean(0)).square().mean().sqrt().clamp_min(1e-6))
        self.mean_picture.copy_(frames.float().mean(0) / 255)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of `frames` (B, V, 3, H, W), in [0, 1], drawn from `latents` (B, K, D)."""
        loss = F.mse_loss(self._drawn(batch["latents"]), batch["frames"])
        return loss, {"reconstruction_loss": loss.detach()}

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents: (B, K, D). Returns frames (B, V, 3, H, W) in [0, 1]."""
        return self._drawn(latents).clamp(0, 1)

    def _drawn(self, latents: Tensor) -> Tensor:
        height, width = self.mean_picture.shape[-2:]
        centred = (latents.float() - self.latent_mean) / self.latent_scale
        features = F.silu(self.spread(centred.flatten(1)).unflatten(1, (-1, *self.grid)))
        for convolution in self.convolutions:
            features = F.silu(convolution(F.interpolate(features, scale_factor=2.0)))
        drawn = F.pixel_shuffle(self.draw(features), 2).unflatten(1, (self.cameras, 3))
        return self.mean_picture + drawn[..., :height, :width]
