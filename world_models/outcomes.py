"""What a latent scene amounts to: reward, success, progress value and proprioception, read out by heads.

B batch, K latent tokens, D width, S size of the proprioceptive state, G size of the goal's description.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from world_models.parallel import masked_average
from world_models.transformer import masked_mse


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Readings of B scenes, or what they should have been.

    reward: (B,), standardised; success: (B,), logits, or 0 and 1 as targets; value: (B,), the discounted mean
    of the rewards to come; state: (B, S) proprioception. None: not known.
    """

    reward: Tensor | None = None
    success: Tensor | None = None
    value: Tensor | None = None
    state: Tensor | None = None


class OutcomeHeads(nn.Module):
    """One network over all latent tokens of a scene and the goal; one output per reading.

    state_dim: S, 0 where there is no proprioception to read out.
    """

    def __init__(self, *, tokens: int, dim: int, goal_dim: int, state_dim: int, width: int = 256) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(tokens * dim)
        self.trunk = nn.Sequential(
            nn.Linear(tokens * dim + goal_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3),
        )
        self.state = nn.Linear(tokens * dim, state_dim) if state_dim else None

    def forward(self, latents: Tensor, goal: Tensor) -> Outcomes:
        """latents: (B, K, D); goal: (B, G)."""
        flat = self.norm(latents.flatten(1))
        reward, success, value = self.trunk(torch.cat([flat, goal], dim=1)).float().unbind(1)
        state = None if self.state is None else self.state(flat).float()
        return Outcomes(reward=reward, success=success, value=value, state=state)


def outcome_losses(read: Outcomes, target: Outcomes, is_pad: Tensor) -> dict[str, Tensor]:
    """One scalar per reading that the target knows: squared error, for success binary cross-entropy.

    is_pad: (B,) bool. A target that is NaN is not known.
    """
    losses: dict[str, Tensor] = {}
    for name in ("reward", "success", "value", "state"):
        predicted, wanted = getattr(read, name), getattr(target, name)
        if wanted is None:
            continue
        wanted = wanted.float()
        ignored = is_pad | wanted.isnan().unsqueeze(-1).flatten(1).any(1)
        wanted = wanted.nan_to_num()
        if name == "success":
            real = (~ignored).float()
            error = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="none")
            losses[name] = masked_average(error, real)
        else:
            losses[name] = masked_mse(predicted, wanted, ignored)
    return losses


def expectile_loss(predicted: Tensor, target: Tensor, is_pad: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error (implicit Q-learning, arXiv 2110.06169).

    Above 0.5 it leans to the better of what was seen to follow, so that failures beside a success do not
    talk the place down. predicted, target, is_pad: of one shape. Returns a scalar.
    """
    error = target - predicted
    weight = torch.where(error > 0, expectile, 1 - expectile)
    real = (~is_pad).to(error.dtype)
    return masked_average(weight * error.square(), real)
