"""Scene encoders: the cameras of one moment become K latent visual tokens z.

An image tower turns each camera into a grid of patch features; K learnable queries attend over every grid and
read out, beside the attended feature, the expected image position of their attention (spatial soft-argmax,
Levine et al. 2016, arXiv 1504.00702), which keeps positions far finer than the grid. Imagination, dynamics
and planner cost all live in this one space.

Shapes: B batch, V cameras, K latent tokens, D width, C feature channels, P grid cells.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SceneEncoder(nn.Module, ABC):
    """Turns the cameras of one moment into latent visual tokens: features, then queries over them."""

    def __init__(self, queries: "LatentQueries") -> None:
        super().__init__()
        self.queries = queries

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Feature grids (B, V, C, h, w) of images (B, V, 3, H, W) in [0, 1]."""

    def encode(self, images: Tensor, guidance: Tensor | None = None) -> Tensor:
        """images: (B, V, 3, H, W) in [0, 1]; guidance: see `LatentQueries`. Returns z: (B, K, D)."""
        return self.queries(self.features(images), guidance)

    def forward(self, images: Tensor) -> Tensor:
        """The same as `encode`."""
        return self.encode(images)

    def _as_trained(self, images: Tensor) -> Tensor:
        """The pictures, all in a row: (B * V, 3, H, W). ValueError for another number of cameras."""
        cameras = self.queries.queries.shape[0]
        if images.shape[1] != cameras:
            raise ValueError(f"{images.shape[1]} cameras: expected {cameras}, as in training")
        return images.flatten(0, 1)


def stack_cameras(cameras: list[Tensor]) -> Tensor:
    """Cameras of (..., 3, H, W) each as (..., V, 3, H, W), without leaving channels-last memory."""
    pixels = torch.stack([camera.movedim(-3, -1) for camera in cameras], dim=-4)
    return pixels.movedim(-1, -3)


class Tower(nn.Module):
    """From images to one feature grid of `channels` channels."""

    channels: int


class StridedTower(Tower):
    """Early strided convolutions without normalisation layers: the fastest tower on a CPU.

    layers: (channels, kernel, stride) of each convolution.
    """

    def __init__(self, layers: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        convolutions, channels = [], 3
        for width, kernel, stride in layers:
            convolution = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2)
            # Keeps the scale of the features without normalisation layers.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
            convolutions.append(convolution)
            channels = width
        self.convolutions = nn.ModuleList(convolutions)
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns the feature grid (B, C, h, w)."""
        for convolution in self.convolutions:
            images = F.relu(convolution(images), inplace=True)
        return images


class TimmTower(Tower):
    """Any timm model that yields feature maps; `stage` picks one, for example 2 for stride 8 in a ResNet."""

    def __init__(self, name: str, stage: int, *, pretrained: bool = False) -> None:
        super().__init__()
        self.model: Any = timm.create_model(
            name, pretrained=pretrained, features_only=True, out_indices=(stage,)
        )
        self.channels: int = self.model.feature_info.channels()[-1]

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns the feature grid (B, C, h, w)."""
        return self.model(images)[-1]


PIXEL_MEAN, PIXEL_DEVIATION = 0.45, 0.225
"""Brightness of common pictures (ImageNet's, over the three channels). A tower without normalisation layers
that is fed [0, 1] sees a bright field with faint objects in it, and takes far longer to find them."""

SHARPNESS = 4.0
"""Initial spread of the queries' scores: flat attention averages small objects away, and their gradient."""

TOWERS: dict[str, Callable[[], Tower]] = {
    "strided12": lambda: StridedTower(((48, 8, 4), (96, 3, 2), (128, 3, 1))),
    "strided24": lambda: StridedTower(((32, 8, 4), (64, 3, 1), (64, 3, 1))),
    "resnet18": lambda: TimmTower("resnet18", 2),
}


def make_tower(name: str) -> Tower:
    """The image tower of that name in `TOWERS`; ValueError with the valid names for any other."""
    if name not in TOWERS:
        raise ValueError(f"image tower {name!r}: expected one of {', '.join(TOWERS)}")
    return TOWERS[name]()


class LatentQueries(nn.Module):
    """K learnable queries, each with several heads, over the feature grids of V cameras.

    Every head attends to every camera separately and yields the attended features and the expected (x, y) of
    its attention in [-1, 1]. A cell's place is among its features (CoordConv, arXiv 1807.03247), so that a
    query can also ask for the leftmost thing of a kind.
    """

    def __init__(self, channels: int, *, cameras: int, tokens: int, heads: int, dim: int) -> None:
        super().__init__()
        self.tokens, self.channels = tokens, channels + 2
        queries = torch.randn(cameras, tokens * heads, channels) * SHARPNESS * channels**-0.5
        self.queries = nn.Parameter(F.pad(queries, (0, 2)))
        self.project = nn.Linear(cameras * heads * self.channels, dim)
        self.token_embedding = nn.Parameter(torch.randn(tokens, dim) * 0.02)

    def forward(self, grids: Tensor, guidance: Tensor | None = None) -> Tensor:
        """grids: (B, V, C, h, w); guidance: (B, V, G * heads, C + 2), added to the last G tokens' queries.

        Returns (B, K, D).
        """
        height, width = grids.shape[-2:]
        features = grids.flatten(3).transpose(2, 3)
        positions = _grid_positions(height, width, grids.device).to(features)
        positions = positions.expand(*features.shape[:3], -1)
        features = torch.cat([features, positions], dim=-1)  # (B, V, P, C + 2)
        queries = self.queries
        if guidance is not None:
            queries = queries + F.pad(guidance, (0, 0, queries.shape[1] - guidance.shape[2], 0))
        # In bf16 as the product before it is: a copy in float32 would double the time and gain no digit.
        attention = (queries @ features.transpose(2, 3)).softmax(dim=-1)  # (B, V, K * heads, P)
        read = (attention @ features).unflatten(2, (self.tokens, -1)).transpose(1, 2)
        return self.project(read.flatten(2)) + self.token_embedding


def _grid_positions(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of the grid cells as (x, y) in [-1, 1]: (h * w, 2)."""
    y = (torch.arange(height, device=device) + 0.5) / height * 2 - 1
    x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


class VisualEncoder(SceneEncoder):
    """An image tower shared by all cameras, followed by K learnable queries."""

    def __init__(self, tower: str, *, cameras: int, tokens: int, heads: int, dim: int) -> None:
        made = make_tower(tower)
        super().__init__(LatentQueries(made.channels, cameras=cameras, tokens=tokens, heads=heads, dim=dim))
        self.tower = made

    def features(self, images: Tensor) -> Tensor:
        """See `SceneEncoder`."""
        flat = (self._as_trained(images) - PIXEL_MEAN) / PIXEL_DEVIATION
        grids = self.tower(flat.contiguous(memory_format=torch.channels_last))
        return grids.unflatten(0, images.shape[:2])
