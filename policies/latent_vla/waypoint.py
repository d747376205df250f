"""Waypoint: how far the robot has to go until what it is doing is done, read off a look before it acts.

A demonstration tells in hindsight where the robot was when its present sub-goal, or the episode, ended. To
predict that from latents and state, relative to where the robot is, asks for the place of what is dealt with
from the first sample on, while the next actions hardly do: most of them follow from the state alone. As an
auxiliary task that is old (Finn et al. 2017, arXiv 1709.04905, the gripper's pose at the time of the grasp;
James and Davison 2022, arXiv 2105.14829, next best poses); here what is predicted also goes on to the action
head, as part of the state's token, and can be read there.

Shapes: B batch, T looks, K latent tokens, D width, S state size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.latent_vla.trajectories import is_exploration
from world_models.parallel import masked_average

WAYPOINT = "observation.waypoint"
"""(B, S) in a batch: what is to be added to the present state, in the data set's units, to be where the robot
was at the end of its present sub-goal, or of the episode where there are none. Batches without it teach
nothing about waypoints."""

HIDDEN = 256


class Waypoint(nn.Module):
    """Predicts the way that is left, in standard deviations of the state, and says it in a token."""

    scale: Tensor

    def __init__(self, *, tokens: int, dim: int, scale: Tensor) -> None:
        """tokens: K; dim: D; scale: (S,), what one unit of what is predicted is in the data set's units."""
        super().__init__()
        inputs, states = tokens * dim, len(scale)
        self.register_buffer("scale", scale)
        self.norm = nn.LayerNorm(inputs)
        self.hidden = nn.Linear(inputs + states, HIDDEN)
        self.out = nn.Linear(HIDDEN, states)
        self.embed = nn.Linear(states, dim)

    def forward(self, latents: Tensor, state: Tensor) -> Tensor:
        """The way left (..., S), over `scale`; latents: (..., K, D); state: (..., S), normalised."""
        seen = torch.cat([self.norm(latents.flatten(-2)), state.to(latents)], dim=-1)
        return self.out(F.gelu(self.hidden(seen))).float()

    def loss(self, latents: Tensor, state: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Huber error of looks (B, K, D) and (B, S); failed episodes and padding teach nothing."""
        wanted = batch[WAYPOINT] / self.scale
        error = F.smooth_l1_loss(self(latents, state), wanted, reduction="none").mean(-1)
        real = ~(is_exploration(batch) | batch["action_is_pad"][:, 0])
        return masked_average(error, real.to(error))


class StateToken(nn.Linear):
    """Where the robot is, as a token; with a waypoint, also where it is about to be."""

    def __init__(self, size: int, dim: int, waypoint: Waypoint | None = None) -> None:
        """size: S; dim: D."""
        super().__init__(size, dim)
        self.waypoint = waypoint

    def forward(self, state: Tensor, latents: Tensor) -> Tensor:  # type: ignore[override]
        """Tokens (B, T, D) of looks with states (B, T, S) and latents (B, T, K, D)."""
        token = super().forward(state)
        if self.waypoint is None:
            return token
        return token + self.waypoint.embed(self.waypoint(latents, state))


def deviation_of(statistics: Any, key: str, size: int) -> Tensor:
    """Standard deviations (S,) of a feature, not quite 0; ones where the statistics do not tell."""
    known = (statistics or {}).get(key, {}).get("std")
    if known is None:
        return torch.ones(size)
    return torch.as_tensor(known, dtype=torch.float32).flatten().clamp(min=1e-3)
