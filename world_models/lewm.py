"""LeWorldModel (arXiv 2603.19312) as its authors publish it: a peer to be compared with.

Its modules are those of the package `stable-worldmodel`; encoder, projectors and loss are put together as the
paper says. A scene is one token, its cameras side by side in one picture. It foresees scenes, and neither
reads instructions nor what scenes are worth: goals have to be pictures.

B batch, N rollout steps, V cameras, D width, h environment steps of a chunk, A action size.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from world_models.config import LeWMConfig, Sizes
from world_models.encoders import PIXEL_DEVIATION, PIXEL_MEAN
from world_models.from_pixels import Clip
from world_models.outcomes import Outcomes
from world_models.transformer import masked_mse, participation_ratio

PATCHES = 16
"""Along each side of the picture that the ViT's places are made for; for others they are interpolated."""


class LeWorldModel(nn.Module):
    """Sees and predicts: implements `WorldModel`, but for outcomes."""

    inverse = None

    def __init__(self, config: LeWMConfig, sizes: Sizes) -> None:
        """ValueError for data without actions, or without the package."""
        super().__init__()
        if not sizes.action_dim:
            raise ValueError("--model.type=lewm: expected data with actions")
        self.config, self.sizes = config, sizes
        self.num_tokens, self.dim = config.num_latents, config.dim
        published = _published()
        vit = published["ViTConfig"](
            image_size=PATCHES * config.patch_size,
            patch_size=config.patch_size,
            hidden_size=config.dim,
            num_hidden_layers=config.encoder_depth,
            num_attention_heads=config.encoder_heads,
            intermediate_size=4 * config.dim,
        )
        self.network = published["LeWM"](
            encoder=published["ViTModel"](vit, add_pooling_layer=False),
            predictor=published["Predictor"](
                num_frames=config.rollout_steps,
                input_dim=config.dim,
                hidden_dim=config.dim,
                depth=config.dynamics_depth,
                heads=config.dynamics_heads,
                mlp_dim=config.hidden,
                dropout=config.dropout,
            ),
            action_encoder=published["Embedder"](
                input_dim=config.chunk_steps * sizes.action_dim, emb_dim=config.dim
            ),
            projector=self._projector(published),
            pred_proj=self._projector(published),
        )
        self.sigreg = published["SIGReg"](num_proj=config.directions)

    def _projector(self, published: dict[str, Any]) -> nn.Module:
        dim = self.config.dim
        return published["MLP"](dim, self.config.hidden, dim, norm_fn=nn.BatchNorm1d)

    def encode(self, images: Tensor) -> Tensor:
        """images: (..., V, 3, H, W) in [0, 1]. Returns z: (..., 1, D)."""
        pixels = (images - PIXEL_MEAN) / PIXEL_DEVIATION
        wide = pixels.movedim(-4, -2).flatten(-2)  # (..., 3, H, V * W)
        seen = self.network.encode({"pixels": wide.reshape(-1, 1, *wide.shape[-3:])})["emb"]
        return seen.reshape(*images.shape[:-4], 1, self.dim)

    def step(self, history: Tensor, chunk: Tensor) -> Tensor:
        """history: (B, 1, 1, D); chunk: (B, h, A), normalised. Returns (B, 1, D)."""
        return self.rollout(history, chunk.unsqueeze(1))[:, 0]

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, 1, 1, D); chunks: (B, N, h, A), normalised, any N >= 1. Returns (B, N, 1, D)."""
        known = {"pixels": chunks.new_empty(len(chunks), 1, 1), "emb": history.transpose(1, 2)}
        foreseen = self.network.rollout(known, chunks.flatten(2).unsqueeze(1))["predicted_emb"]
        return foreseen[:, 0, 1:].unsqueeze(2)

    def goal(self, ids: Tensor, mask: Tensor) -> Tensor:
        """No numbers (B, 0): it reads no instructions."""
        return torch.zeros(len(ids), 0, device=ids.device)

    def outcomes(self, latents: Tensor, goal: Tensor) -> Outcomes:
        """Raise ValueError: it does not say what a scene is worth."""
        raise ValueError("a lewm reads no outcomes: expected a goal in pictures, or a jepa")

    def forward(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The paper's loss, a scalar, and its parts as detached metrics, named as a `JEPA` names them."""
        latents = self.encode(clip.images)[:, :, 0]  # (B, 1 + N, D)
        present, future = latents[:, :-1], latents[:, 1:]
        predicted = self.network.predict(present, self.network.action_encoder(clip.chunks.flatten(2)))
        error = masked_mse(predicted, future, clip.is_pad)
        spread = self.sigreg(latents.float().transpose(0, 1))
        metrics = {
            "dynamics_loss": error.detach(),
            "sigreg_loss": spread.detach(),
            "copy_error": masked_mse(present, future, clip.is_pad).detach(),
            "effective_rank": participation_ratio(latents.flatten(0, 1)),
            "variance": latents.detach().float().flatten(0, 1).var(0).mean(),
        }
        return error + self.config.sigreg_weight * spread, metrics


def _published() -> dict[str, Any]:
    """The authors' modules and the ViT that they take, by name; ValueError without their package."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of environments that it would like as well
            from stable_worldmodel.wm.lewm import LeWM
            from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor
            from stable_worldmodel.wm.loss import SIGReg
    except ImportError as error:
        raise ValueError(f"--model.type=lewm: expected the extra `peers` to be installed: {error}") from error
    from transformers import ViTConfig, ViTModel

    modules = (LeWM, MLP, Embedder, Predictor, SIGReg, ViTConfig, ViTModel)
    return {module.__name__: module for module in modules}
