"""Waypoint: how far the robot has to go until what it is doing is done, read off a look before it acts.

A demonstration tells in hindsight where the robot was when its present sub-goal, or the episode, ended. To
predict that from latents and state, relative to where the robot is, asks for the place of what is dealt with
from the first sample on, while the next actions hardly do: most of them follow from the state alone. As an
auxiliary task that is old (Finn et al. 2017, arXiv 1709.04905, the gripper's pose at the time of the grasp;
James and Davison 2022, arXiv 2105.14829, next best poses); here what is predicted also goes on to the action
head, as part of the state's token, and can be read there. A grounded plan (`policies.latent_vla.grounding`)
has it as a token of its own, read off what is seen with the sub-goal in mind.

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

    def __init__(self, *, tokens: int, dim: int, scale: Tensor, weight: float) -> None:
        """tokens: K; dim: D; scale: (S,), what one unit of what is predicted is in the data set's units.

        weight: of its error in the loss.
        """
        super().__init__()
        self.weight = weight
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

    def token(self, latents: Tensor, state: Tensor) -> Tensor:
        """The way left as one token (..., D); takes what `forward` takes."""
        return self.embed(self(latents, state))


def waypoint_loss(
    waypoint: Waypoint | None,
    latents: Tensor,
    state: Tensor,
    batch: dict[str, Tensor],
    rows: slice = slice(None),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted Huber error of looks (B, K, D) and (B, S) at these rows of a batch, and the error by name.

    Failed episodes and padding teach nothing; 0 where nothing predicts, or the batch does not tell.
    """
    if waypoint is None or WAYPOINT not in batch:
        return latents.new_zeros(()), {}
    wanted = batch[WAYPOINT][rows] / waypoint.scale
    errors = F.smooth_l1_loss(waypoint(latents, state), wanted, reduction="none").mean(-1)
    real = ~(is_exploration(batch) | batch["action_is_pad"][:, 0])
    error = masked_average(errors, real[rows].to(errors))
    return waypoint.weight * error, {"waypoint_loss": error.detach()}


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
        return token + self.waypoint.token(latents, state)


def deviation_of(statistics: Any, key: str, size: int) -> Tensor:
    """Standard deviations (S,) of a feature, not quite 0; ones where the statistics do not tell."""
    known = (statistics or {}).get(key, {}).get("std")
    if known is None:
        return torch.ones(size)
    return torch.as_tensor(known, dtype=torch.float32).flatten().clamp(min=1e-3)
