"""A pretrained VLM as scene encoder and backbone of the policy.

Its vision tower and connector give patch features, of which K learned queries make the latent visual tokens;
its language model reads instruction, latents and all that is imagined. Latents keep a width D of their own,
which suits the world model; one linear layer leads into the language model's.

Shapes: B batch, V cameras, K latent tokens, L instruction tokens, N new tokens, D the policy's width, W the
language model's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.latent_vla.backbone import Context, LastRead, append_blocks, read_causally
from policies.latent_vla.vlm import VLM, Description, VisionTower
from world_models.encoders import LatentQueries, SceneEncoder


class VLMEncoder(SceneEncoder):
    """A VLM's vision tower, shared by all cameras, and K learned queries."""

    def __init__(
        self, tower: VisionTower, described: Description, *, cameras: int, tokens: int, heads: int, dim: int
    ) -> None:
        super().__init__(LatentQueries(tower.channels, cameras=cameras, tokens=tokens, heads=heads, dim=dim))
        self.vlm = tower
        self.size = tuple(described["size"])
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(described[name]).view(3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """See `SceneEncoder`."""
        flat = self._as_trained(images).contiguous()
        if tuple(flat.shape[2:]) != self.size:
            flat = F.interpolate(flat, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        grids = self.vlm((flat - self.mean) / self.std).movedim(1, -1)
        # Connectors differ in scale by orders of magnitude; the queries' attention expects about 1.
        grids = F.layer_norm(grids.float(), grids.shape[-1:]).movedim(-1, 1)
        return grids.unflatten(0, images.shape[:2])


class PretrainedBackbone(nn.Module):
    """A VLM's language model behind the `Backbone` protocol."""

    def __init__(self, vlm: VLM, *, dim: int) -> None:
        super().__init__()
        self.vlm, self.axes = vlm.language, vlm.axes
        self.dim, self.width = dim, self.vlm.config.hidden_size
        self.num_states = self.vlm.config.num_hidden_layers + 1
        self.vocabulary = self.vlm.config.vocab_size
        enter = nn.Linear(dim, self.width)
        with torch.no_grad():  # tokens enter at the scale of words
            enter.weight.normal_(std=float(self.vlm.embed_tokens.weight.std()) * dim**-0.5)
            enter.bias.zero_()
        self.enter = nn.Sequential(nn.LayerNorm(dim), enter)
        self.last_read = LastRead()

    def read(self, instruction: Tensor, mask: Tensor) -> Context:
        """Read the instruction causally, as in pretraining; the mask alone tells what is padding."""
        positions = torch.arange(instruction.shape[1], device=instruction.device)[None]
        return read_causally(self.vlm, instruction, mask, self._along_axes(positions), self.last_read)

    def extend(self, context: Context, blocks: Sequence[Tensor]) -> Context:
        """Append blocks of embeddings; positions go on from the visible tokens, as if nothing else were."""
        embeddings = self.enter(torch.cat(list(blocks), dim=1))
        new = torch.arange(embeddings.shape[1], device=embeddings.device)
        positions = self._along_axes(context.visible.sum(1, keepdim=True) + new)
        sizes = [block.shape[1] for block in blocks]
        longer, states = append_blocks(self.vlm, context, embeddings, sizes, positions)
        # The layers of a trained model differ in scale by orders of magnitude.
        return longer.with_states(tuple(F.layer_norm(state, state.shape[-1:]) for state in states))

    def _along_axes(self, positions: Tensor) -> Tensor:
        """Positions (B, N) as the language model takes them: the same along each axis, (axes, B, N)."""
        return positions if self.axes == 1 else positions.expand(self.axes, -1, -1)
