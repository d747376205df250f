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
from world_models.outcomes import OutcomeHeads, Outcomes, expectile_loss, outcome_losses
from world_models.sigreg import random_directions, sigreg
from world_models.transformer import masked_mse, participation_ratio

DISCOUNT = 0.9
"""Of a value, per chunk: a reward five chunks away counts 0.59 of one that is there."""

EXPECTILE = 0.8


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What was observed: the moments up to now, the chunks that followed, and the moments after each.

    history: (B, T, K, D) latents, the present last; chunks: (B, N, h, A); future: (B, N, K, D) latents;
    is_pad: (B, N) bool, true behind an episode's end; goal: (B, G); outcomes: what the future moments amount
    to, each (B, N) or (B, N, S), NaN where not known; values are learned from the rewards.
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
    inverse: float = 1.0


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
        moments = torch.cat([seen.history[:, -1:], seen.future, predicted], dim=1)
        flat = self.heads(moments.flatten(0, 1), seen.goal.repeat_interleave(2 * steps + 1, dim=0))
        read = {
            name: value.unflatten(0, moments.shape[:2])
            for name, value in vars(flat).items()
            if value is not None  # a state, where there is none to read
        }
        targets = vars(seen.outcomes) | {"value": None}
        if seen.outcomes.reward is not None:
            targets["value"] = read["value"][:, 1 : 1 + steps].detach()  # of the real moments
        losses = outcome_losses(
            Outcomes(**{name: value[:, 1:].flatten(0, 1) for name, value in read.items()}),
            Outcomes(**{name: _twice(value) for name, value in targets.items()}),
            seen.is_pad.repeat(1, 2).flatten(),
        )
        if seen.outcomes.reward is not None:
            losses["value"] = losses["value"] + _temporal_difference(read["value"][:, : 1 + steps], seen)
        return losses


def make_world_model(
    *,
    tokens: int,
    dim: int,
    history: int,
    chunk_steps: int,
    action_dim: int,
    state_dim: int,
    goal_dim: int,
    depth: int,
    heads: int,
    directions: int = 64,
) -> LatentWorldModel:
    """Dynamics and outcome heads on the same latents, by K, D, T, h, A, S, G and the transformer's size."""
    dynamics = LatentDynamics(
        tokens=tokens,
        dim=dim,
        history=history,
        chunk_steps=chunk_steps,
        action_dim=action_dim,
        depth=depth,
        heads=heads,
    )
    outcomes = OutcomeHeads(tokens=tokens, dim=dim, goal_dim=goal_dim, state_dim=state_dim)
    return LatentWorldModel(dynamics, outcomes, directions=directions)


def _twice(target: Tensor | None) -> Tensor | None:
    """A target (B, N, ...) for real and predicted moments, (B * 2 N, ...)."""
    return None if target is None else torch.cat([target, target], dim=1).flatten(0, 1)


def _temporal_difference(values: Tensor, seen: Trajectory) -> Tensor:
    """How far the values (B, 1 + N) of the real moments are from the reward and the value a chunk later.

    Behind an episode's end all stays as it is after a success, and nothing is known after a failure.
    """
    assert seen.outcomes.reward is not None
    is_cut = seen.is_pad
    if seen.outcomes.success is not None:
        is_cut = is_cut & (seen.outcomes.success != 1)
    reward = seen.outcomes.reward.float()
    target = (1 - DISCOUNT) * reward.nan_to_num() + DISCOUNT * values[:, 1:].detach()
    return expectile_loss(values[:, :-1], target, is_cut | reward.isnan(), EXPECTILE)
