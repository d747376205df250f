"""The latent world model: predicts the encoder's own latents, and what they amount to.

Joint-embedding prediction (LeWorldModel, arXiv 2603.19312): the next latents are regressed, gradients flow
into prediction and target alike, and SIGReg keeps the latents from collapsing. A rollout is trained as it is
used: each step starts from the prediction before it. Takes latents, never pixels; the encoder belongs to
whoever observes.

B batch, T history moments, N rollout steps, K latent tokens, D width, h environment steps of a chunk,
A action size, S state size, G size of the goal's description.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_models.dynamics import LatentDynamics
from world_models.outcomes import OutcomeHeads, Outcomes, outcome_losses
from world_models.sigreg import random_directions, sigreg
from world_models.transformer import masked_mse, participation_ratio


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What was observed: the moments up to now, the chunks that followed, and the moments after each.

    history: (B, T, K, D) latents, the present last; chunks: (B, N, h, A); future: (B, N, K, D) latents;
    is_pad: (B, N) bool, true behind an episode's end; goal: (B, G); outcomes: what the future moments amount
    to, each (B, N) or (B, N, S), NaN where not known.
    """

    history: Tensor
    chunks: Tensor
    future: Tensor
    is_pad: Tensor
    goal: Tensor
    outcomes: Outcomes


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each part of the world model's loss counts."""

    dynamics: float = 1.0
    sigreg: float = 0.05
    reward: float = 0.5
    success: float = 0.1
    value: float = 0.5
    state: float = 0.1


class LatentWorldModel(nn.Module):
    """Latent dynamics and outcome heads: implements `WorldModel`."""

    def __init__(self, dynamics: LatentDynamics, heads: OutcomeHeads, *, directions: int = 64) -> None:
        """directions: random projections of SIGReg, drawn afresh at each step."""
        super().__init__()
        self.dynamics, self.heads, self.directions = dynamics, heads, directions

    def step(self, history: Tensor, chunk: Tensor) -> Tensor:
        """history: (B, T, K, D); chunk: (B, h, A). Returns (B, K, D)."""
        return self.dynamics.step(history, chunk)

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D); chunks: (B, N, h, A). Returns (B, N, K, D)."""
        return self.dynamics.rollout(history, chunks)

    def outcomes(self, latents: Tensor, goal: Tensor) -> Outcomes:
        """latents: (B, K, D); goal: (B, G)."""
        return self.heads(latents, goal)

    def loss(self, seen: Trajectory, weights: LossWeights) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss, a scalar, and its parts as detached metrics.

        `copy_error` is the dynamics' error if nothing ever moved; `effective_rank` and `variance` tell
        whether the latents collapse.
        """
        predicted = self.rollout(seen.history, seen.chunks)
        everything = torch.cat([seen.history, seen.future], dim=1).flatten(0, 1)
        directions = random_directions(everything.shape[-1], self.directions, everything.device)
        losses = {
            "dynamics": masked_mse(predicted, seen.future, seen.is_pad),
            "sigreg": sigreg(everything, directions),
            **self._outcome_losses(seen, predicted),
        }
        copied = seen.history[:, -1:].expand_as(seen.future)
        metrics = {f"{name}_loss": value.detach() for name, value in losses.items()}
        metrics |= {
            "copy_error": masked_mse(copied, seen.future, seen.is_pad).detach(),
            "effective_rank": participation_ratio(everything),
            "variance": everything.detach().float().var(0).mean(),
        }
        total = torch.stack([getattr(weights, name) * value for name, value in losses.items()]).sum()
        return total, metrics

    def _outcome_losses(self, seen: Trajectory, predicted: Tensor) -> dict[str, Tensor]:
        """Read from real and from predicted latents alike: planning reads predictions."""
        steps = seen.is_pad.shape[1]
        read = self.heads(
            torch.cat([seen.future, predicted]).flatten(0, 1),
            seen.goal.repeat_interleave(steps, dim=0).repeat(2, 1),
        )
        wanted = {
            name: None if value is None else value.flatten(0, 1).repeat(2, *[1] * (value.ndim - 2))
            for name, value in vars(seen.outcomes).items()
        }
        return outcome_losses(read, Outcomes(**wanted), seen.is_pad.flatten().repeat(2))
