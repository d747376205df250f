"""Foresight: the policy's world model, told the goal in words; it judges chunks by what they lead to.

B batch, T history steps, C candidate chunks, K latent tokens, D width, H action horizon, A action size,
G width of the goal's description, that of the backbone's hidden states.
"""

from typing import Any

import torch
from torch import Tensor, nn

from policies.latent_vla.backbone import Backbone, Context
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.trajectories import absolute_chunks, future_is_pad, future_outcomes, reward_scale
from world_models.jepa import LossWeights, Trajectory, make_world_model


class Foresight(nn.Module):
    """The world model inside the policy, and the tokens that only it needs."""

    def __init__(self, config: LatentVLAConfig, statistics: dict[str, Any], *, goal_dim: int) -> None:
        """statistics: of the data set, for the scale of its rewards; empty where a checkpoint is loaded."""
        super().__init__()
        self.config = config
        self.model = make_world_model(
            tokens=config.num_latents,
            dim=config.dim,
            history=config.n_obs_steps,
            chunk_steps=config.chunk_size,
            action_dim=config.action_size,
            state_dim=config.state_size,
            goal_dim=goal_dim,
            depth=config.dynamics_depth,
            heads=config.dynamics_heads,
        )
        self.goal_query = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        self.exploration = nn.Parameter(torch.randn(config.dim) * 0.02)
        self.reward_scale: Tensor
        self.register_buffer("reward_scale", torch.tensor(reward_scale(statistics)))

    def goal(self, backbone: Backbone, instruction: Context) -> Tensor:
        """The instruction as one vector (B, G)."""
        query = self.goal_query.expand(len(instruction.visible), -1, -1)
        return backbone.extend(instruction, [query]).states[-1][:, 0].float()

    def loss(
        self, batch: dict[str, Tensor], latents: Tensor, goal: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The world model's loss and its metrics. latents: (B, T + N, K, D)."""
        config, history = self.config, self.config.n_obs_steps
        seen = Trajectory(
            history=latents[:, :history],
            chunks=absolute_chunks(batch, config.chunk_size),
            future=latents[:, history:],
            is_pad=future_is_pad(batch, history),
            goal=goal,
            outcomes=future_outcomes(batch, history, config.chunk_size, self.reward_scale),
        )
        outcome = config.outcome_loss_weight
        weights = LossWeights(
            dynamics=config.dynamics_loss_weight,
            sigreg=config.sigreg_loss_weight,
            reward=outcome,
            success=outcome / 5,
            value=outcome,
            state=outcome / 5,
        )
        return self.model.loss(seen, weights)

    def score(
        self, latents: Tensor, candidates: Tensor, goal: Tensor, imagined: Tensor | None = None
    ) -> Tensor:
        """How good each candidate is, (B, C): more is better.

        latents: (B, T, K, D); candidates: (B, C, H, A), normalised absolute actions; goal: (B, D);
        imagined: (B, K, D), where the plan wants to be after the chunk.
        """
        count = candidates.shape[1]
        history = latents.repeat_interleave(count, dim=0)
        foreseen = self.model.step(history, candidates.flatten(0, 1))
        outcomes = self.model.outcomes(foreseen, goal.repeat_interleave(count, dim=0))
        assert outcomes.reward is not None
        assert outcomes.value is not None
        score = self.config.reward_weight * outcomes.reward + self.config.value_weight * outcomes.value
        score = score.unflatten(0, (-1, count))
        if imagined is None:
            return score
        distance = (foreseen.unflatten(0, (-1, count)) - imagined[:, None]).square().mean((2, 3))
        return score - self.config.imagination_distance_weight * distance
