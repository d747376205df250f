"""A world model on its own, from pixels: scene encoder and latent world model, trained as one.

Joint-embedding prediction as in `world_models.jepa` (LeWorldModel, arXiv 2603.19312), over clips of several
cameras. Films without actions can be learnt from as well: the action's size is then 0. An optional frozen
teacher adds one regression head on the same latents.

B batch, T history moments, N rollout steps, V cameras, K latent tokens, D width, h environment steps of a
chunk, A action size, S state size, L bytes of an instruction, G size of the goal's description, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from world_models.config import JEPAConfig, Sizes
from world_models.encoders import VisualEncoder
from world_models.instructions import InstructionEncoder
from world_models.inverse import InverseDynamics, inverse_loss
from world_models.jepa import Trajectory, make_world_model
from world_models.outcomes import Outcomes
from world_models.transformer import masked_mse


@dataclass(frozen=True, kw_only=True)
class Clip:
    """What a world model is trained on.

    images: (B, T + N, V, 3, H, W) in [0, 1]; chunks: (B, N, h, A), between the present and the N moments
    after it; is_pad: (B, N) bool, true behind an episode's end; instruction: ids and their mask, (B, L) each;
    outcomes: what the N moments amount to; teacher: its features of the images, (B, T + N, V, F), or None;
    ending: (B, V, 3, H, W), where the episode ends, and is_step_pad: (B, N, h) bool, steps behind it, for
    inverse dynamics.
    """

    images: Tensor
    chunks: Tensor
    is_pad: Tensor
    instruction: tuple[Tensor, Tensor]
    outcomes: Outcomes
    teacher: Tensor | None = None
    ending: Tensor | None = None
    is_step_pad: Tensor | None = None


class JEPA(nn.Module):
    """Sees, predicts and judges: implements `WorldModel`."""

    def __init__(self, config: JEPAConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.num_tokens, self.dim = config.num_latents, config.dim
        self.encoder = VisualEncoder(
            config.tower,
            cameras=sizes.cameras,
            tokens=config.num_latents,
            heads=config.latent_heads,
            dim=config.dim,
        )
        self.read = InstructionEncoder(
            vocabulary=sizes.vocabulary, max_bytes=config.max_instruction_bytes, dim=config.goal_dim
        )
        self.model = make_world_model(
            tokens=config.num_latents,
            dim=config.dim,
            history=config.history,
            chunk_steps=config.chunk_steps,
            action_dim=sizes.action_dim,
            state_dim=sizes.state_dim,
            goal_dim=config.goal_dim,
            depth=config.dynamics_depth,
            heads=config.dynamics_heads,
            directions=config.directions,
        )
        self.inverse = None
        if config.inverse_dynamics:
            if not sizes.action_dim:
                raise ValueError("--model.inverse_dynamics=true: expected data with actions")
            self.inverse = InverseDynamics(
                tokens=config.num_latents,
                dim=config.dim,
                chunk_steps=config.chunk_steps,
                action_dim=sizes.action_dim,
            )
        flat = config.num_latents * config.dim
        self.teacher_head = nn.Linear(flat, sizes.cameras * sizes.teacher_dim) if sizes.teacher_dim else None

    def encode(self, images: Tensor) -> Tensor:
        """images: (..., V, 3, H, W) in [0, 1]. Returns z: (..., K, D)."""
        leading = images.shape[:-4]
        return self.encoder.encode(images.reshape(-1, *images.shape[-4:])).unflatten(0, leading)

    def step(self, history: Tensor, chunk: Tensor) -> Tensor:
        """history: (B, T, K, D), the present last; chunk: (B, h, A), normalised. Returns (B, K, D)."""
        return self.model.step(history, chunk)

    def rollout(self, history: Tensor, chunks: Tensor) -> Tensor:
        """history: (B, T, K, D), the present last; chunks: (B, N, h, A), normalised, any N >= 1.

        Returns the latents after each chunk, (B, N, K, D).
        """
        return self.model.rollout(history, chunks)

    def goal(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The instruction's vector (B, G) from ids and mask, (B, L); where nothing is asked for, zeros do."""
        return self.read(ids, mask)

    def outcomes(self, latents: Tensor, goal: Tensor) -> Outcomes:
        """What scenes amount to. latents: (B, K, D); goal: (B, G). Readings (B,), the state (B, S)."""
        return self.model.outcomes(latents, goal)

    def forward(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The same as `loss`, for the training loop."""
        return self.loss(clip)

    def loss(self, clip: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss of a clip, a scalar, and its parts as detached metrics."""
        config = self.config
        if clip.ending is None:
            latents, ending = self.encode(clip.images), None
        else:
            latents = self.encode(torch.cat([clip.images, clip.ending.unsqueeze(1)], dim=1))
            latents, ending = latents[:, :-1], latents[:, -1]
        seen = Trajectory(
            history=latents[:, : config.history],
            chunks=clip.chunks,
            future=latents[:, config.history :],
            is_pad=clip.is_pad,
            goal=self.goal(*clip.instruction),
            outcomes=clip.outcomes,
        )
        loss, metrics = self.model.loss(seen, config.loss_weights)
        if self.inverse is not None and ending is not None:
            error = self._inverse_loss(self.inverse, clip, latents[:, config.history - 1 :], ending)
            loss = loss + config.loss_weights.inverse * error
            metrics["inverse_loss"] = error.detach()
        if self.teacher_head is None or clip.teacher is None:
            return loss, metrics
        regressed = self.teacher_head(latents.flatten(2)).unflatten(2, clip.teacher.shape[2:])
        past = clip.is_pad.new_zeros(len(latents), config.history)
        error = masked_mse(regressed, clip.teacher, torch.cat([past, clip.is_pad], dim=1))
        return loss + config.teacher_loss_weight * error, {**metrics, "teacher_loss": error.detach()}

    def _inverse_loss(self, inverse: InverseDynamics, clip: Clip, moments: Tensor, ending: Tensor) -> Tensor:
        """From the present to each later moment (B, 1 + N, K, D) and to the episode's end (B, K, D)."""
        assert clip.is_step_pad is not None
        goals = torch.cat([moments[:, 1:], ending.unsqueeze(1)], dim=1)
        count = goals.shape[1]
        present, chunk, is_pad = (
            first.repeat_interleave(count, dim=0)
            for first in (moments[:, 0], clip.chunks[:, 0], clip.is_step_pad[:, 0])
        )
        return inverse_loss(inverse(present, goals.flatten(0, 1)), chunk, is_pad)
