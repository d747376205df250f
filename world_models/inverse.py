"""Inverse dynamics: the chunk that leads from one scene towards another.

Trained in hindsight (arXiv 1707.01495): whatever came later in an episode, its end too, is a goal that its
actions were on the way to. A planner that starts from there need not search over all that lies before a goal
far away (inverse dynamics on a frozen LeWorldModel, arXiv 2605.08732).

B batch, K latent tokens, D width, h environment steps of a chunk, A action size.
"""

import torch
from torch import Tensor, nn

from world_models.parallel import masked_average


class InverseDynamics(nn.Module):
    """One network over both scenes."""

    def __init__(self, *, tokens: int, dim: int, chunk_steps: int, action_dim: int, width: int = 512) -> None:
        super().__init__()
        self.shape = (chunk_steps, action_dim)
        self.norm = nn.LayerNorm(tokens * dim)
        self.trunk = nn.Sequential(
            nn.Linear(2 * tokens * dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, chunk_steps * action_dim),
        )

    def forward(self, latents: Tensor, goal: Tensor) -> Tensor:
        """latents, goal: (B, K, D). Returns the chunk (B, h, A) in normalised units."""
        both = torch.cat([self.norm(latents.flatten(1)), self.norm(goal.flatten(1))], dim=1)
        return self.trunk(both).float().unflatten(1, self.shape)


def inverse_loss(predicted: Tensor, chunk: Tensor, is_pad: Tensor) -> Tensor:
    """Mean absolute error over real steps: of several ways the common one counts, not their mean.

    predicted, chunk: (B, h, A); is_pad: (B, h) bool. Returns a scalar, 0 where everything is padding.
    """
    real = (~is_pad).float()
    error = (predicted - chunk.float()).abs().mean(-1)
    return masked_average(error, real)
