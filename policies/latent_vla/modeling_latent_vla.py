"""The latent VLA policy: scene encoder -> backbone -> action head, behind LeRobot's policy interface.

Shapes: B batch, T history steps, V cameras, K latent tokens per step, D width, H action horizon, A action
size.
"""

from collections import deque
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from torch import Tensor, nn

from policies.latent_vla.action_head import ActionTransformer, make_action_head
from policies.latent_vla.backbone import Context, ScratchBackbone
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.relative_actions import ACTION_ANCHOR
from world_models.encoders import VisualEncoder


def stack_cameras(cameras: list[Tensor]) -> Tensor:
    """Cameras of (..., 3, H, W) each as (..., V, 3, H, W), without leaving channels-last memory."""
    pixels = torch.stack([camera.movedim(-3, -1) for camera in cameras], dim=-4)
    return pixels.movedim(-1, -3)


class LatentVLAPolicy(PreTrainedPolicy):
    """Reads cameras, instruction and proprioception, decodes action chunks."""

    config_class = LatentVLAConfig  # type: ignore[assignment]
    name = "latent_vla"  # type: ignore[assignment]

    def __init__(self, config: LatentVLAConfig, dataset_stats: Any = None, dataset_meta: Any = None) -> None:
        """LeRobot passes statistics and metadata in training; the processors use them, not the model."""
        super().__init__(config)
        config.validate_features()
        self.config: LatentVLAConfig = config
        self.encoder = VisualEncoder(
            config.tower,
            cameras=len(config.image_features),
            tokens=config.num_latents,
            heads=config.latent_heads,
            dim=config.dim,
        )
        self.backbone = ScratchBackbone(
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            max_instruction_bytes=config.max_instruction_bytes,
        )
        self.embed_state = nn.Linear(config.state_size, config.dim)
        self.history_embedding = nn.Parameter(torch.zeros(config.n_obs_steps, 1, config.dim))
        self.readout = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        network = ActionTransformer(
            horizon=config.chunk_size,
            action_dim=config.action_size,
            tokens=config.action_tokens,
            dim=config.head_dim,
            depth=config.head_depth,
            heads=config.head_heads,
            context_dim=config.dim,
            context_layers=self.backbone.num_states,
        )
        self.head = make_action_head(
            config.action_head, network, samples=config.flow_samples, steps=config.euler_steps
        )
        self.reset()

    def get_optim_params(self) -> dict:
        """All parameters, one group."""
        return self.parameters()  # type: ignore[return-value]

    def reset(self) -> None:
        """Forget the action queue and the history: call at every episode's start."""
        self._actions: deque[Tensor] = deque()
        self._history: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.config.n_obs_steps)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch of windows as LeRobot lays them out; metrics are detached tensors."""
        latents, state = self._observe(batch)
        context = self._think(batch, latents, state)
        loss = self.head.loss(context.states, batch[ACTION], batch["action_is_pad"])
        return loss, {"action_loss": loss.detach()}

    @torch.no_grad()
    def predict_action_chunk(
        self, batch: dict[str, Tensor], noise: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """One chunk (B, H, A), normalised absolute actions.

        noise: (B, H, A) of unit variance, drawn from torch's generator if None; the temperature scales it.

        With history, each call counts as one more look: call it every `n_action_steps` environment steps.
        """
        if kwargs:
            raise TypeError(f"predict_action_chunk got {sorted(kwargs)}: expected only noise")
        self.eval()
        latents, state = self._remember(*self._observe(batch))
        shape = (len(state), self.config.chunk_size, self.config.action_size)
        if noise is None:
            noise = torch.randn(shape, device=state.device)
        if tuple(noise.shape) != shape:
            raise ValueError(f"noise of shape {tuple(noise.shape)}: expected {shape}")
        context = self._think(batch, latents, state)
        chunk = self.head.sample(context.states, noise * self.config.temperature)
        if self.config.relative_actions:
            chunk = chunk.float() + batch[ACTION_ANCHOR][:, None]
        return chunk

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The next action (B, A), normalised; looks and plans anew every `n_action_steps` calls."""
        if not self._actions:
            chunk = self.predict_action_chunk(batch, noise=noise, **kwargs)
            self._actions.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._actions.popleft()

    def _observe(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents (B, T, K, D) and states (B, T, S); T is 1 where the batch has no time dimension."""
        images = stack_cameras([batch[key] for key in self.config.image_features])
        state = batch[OBS_STATE]
        if state.ndim == 2:
            return self.encoder.encode(images).unsqueeze(1), state.unsqueeze(1)
        return self.encoder.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2]), state

    def _remember(self, latents: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Append one look to the history, whose start repeats the first; latents, not frames, are kept."""
        self._history.append((latents, state))
        while len(self._history) < self.config.n_obs_steps:
            self._history.appendleft(self._history[0])
        past_latents, past_states = zip(*self._history, strict=True)
        return torch.cat(past_latents, dim=1), torch.cat(past_states, dim=1)

    def _think(self, batch: dict[str, Tensor], latents: Tensor, state: Tensor) -> Context:
        """Instruction, then scene and state of every step, then the read-out token."""
        context = self.backbone.read(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK])
        scene = torch.cat([latents, self.embed_state(state).unsqueeze(2)], dim=2) + self.history_embedding
        readout = self.readout.expand(len(latents), -1, -1)
        return self.backbone.extend(context, [scene.flatten(1, 2), readout])
