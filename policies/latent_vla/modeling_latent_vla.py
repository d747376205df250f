"""The latent VLA policy: scene encoder -> backbone -> action head, behind LeRobot's policy interface.

Three ways to decide. `reactive`: instruction, scene, action. `imagine`: instruction and scene give a plan of
imagined scenes; scene and plan, without the instruction, give the action. `plan`: many chunks are proposed,
the world model foresees what each leads to, the best is taken.

Shapes: B batch, T history steps, V cameras, K latent tokens per step, D width, N imagined or foreseen steps,
P tokens of an imagined step (K, and one of its sub-goal), C candidates, H action horizon, A action size.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS, OBS_STATE
from torch import Tensor, nn

from policies.latent_vla.backbone import Context
from policies.latent_vla.configuration_latent_vla import LatentVLAConfig
from policies.latent_vla.continuation import Prefix, left_over
from policies.latent_vla.grounding import FEATURES, Look
from policies.latent_vla.guidance import guide
from policies.latent_vla.imagination import Thought
from policies.latent_vla.interventions import Calibration, Imagined, draw_of, replace_plan
from policies.latent_vla.memory import IS_FIRST, rows_of
from policies.latent_vla.parts import (
    MAKERS,
    foresight_part,
    guidance_part,
    head_part,
    imagination_part,
    memory_part,
    optimizer_groups,
    state_part,
)
from policies.latent_vla.predicted_video import film, load_decoder
from policies.latent_vla.recollection import Recollection, look
from policies.latent_vla.refinement import choose
from policies.latent_vla.relative_actions import add_anchor, subtract_anchor
from policies.latent_vla.trajectories import is_exploration
from policies.latent_vla.waypoint import waypoint_loss
from world_models.encoders import stack_cameras

Metrics = dict[str, Tensor]


class LatentVLAPolicy(PreTrainedPolicy):
    """Reads cameras, instruction and proprioception, decodes action chunks."""

    config_class = LatentVLAConfig  # type: ignore[assignment]
    name = "latent_vla"  # type: ignore[assignment]

    def __init__(self, config: LatentVLAConfig, dataset_stats: Any = None, dataset_meta: Any = None) -> None:
        """LeRobot passes statistics and metadata in training; only the rewards' scale is kept of them."""
        super().__init__(config)
        config.validate_features()
        parts = MAKERS[config.backbone](config)
        self.encoder, self.backbone, config = parts.encoder, parts.backbone, parts.config
        self.config: LatentVLAConfig = config
        self.guidance = guidance_part(config, parts)
        self.embed_state = state_part(config, dataset_stats)
        scene_size = config.num_latents * config.dim
        self.sense = nn.Linear(config.state_size, scene_size) if config.proprioceptive_latents else None
        self.history_embedding = nn.Parameter(torch.zeros(config.n_obs_steps, 1, config.dim))
        self.readout = nn.Parameter(torch.randn(1, config.dim) * 0.02)
        self.head = head_part(config, self.backbone)
        self.imagination = imagination_part(config, parts, dataset_stats)
        self.calibration: Calibration | None = None
        """What `config.intervention` takes plans and instructions from; not saved."""
        self.foresight = foresight_part(config, parts, dataset_stats)
        self.memory = memory_part(config)
        self.reset()

    def get_optim_params(self) -> dict:
        """One group of parameters, and one of what is trained of a pretrained VLM."""
        return optimizer_groups(self, self.config.vlm_lr)  # type: ignore[return-value]

    def reset(self) -> None:
        """Forget the action queue, the history and the memory: call at every episode's start."""
        self._actions: deque[Tensor] = deque()
        self.recollection: Recollection | None = None
        self._expected: Tensor | None = None
        self.last_predicted_latents: Tensor | None = None

    # --- training ---------------------------------------------------------------------------------

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Metrics]:
        """Loss of a batch of windows as LeRobot lays them out; metrics are detached tensors."""
        batch = self._featured(batch)
        latents, state = self._observe(batch)
        history = self.config.n_obs_steps
        scene = self._scene(latents[:, :history], state[:, :history])
        if self.memory is not None:
            tell = self.imagination.pursues if self.imagination and self.config.memory_subgoals else None
            scene = self.memory.unroll(scene, batch, tell and tell(batch))
            rows = self.memory.decisions(batch)
            scene, latents, state, batch = scene[rows], latents[rows], state[rows], rows_of(batch, rows)
        instruction, present = self._read(batch), state[:, history - 1]
        if self.imagination is None:
            context = self.backbone.extend(instruction, [scene, self._readout(is_exploration(batch))])
            loss = self._action_loss(context, batch, slice(None))
            metrics = {"action_loss": loss.detach()}
        else:
            loss, metrics = self._imagination_loss(batch, instruction, scene, latents[:, history:], present)
        error, details = waypoint_loss(self.embed_state.waypoint, latents[:, history - 1], present, batch)
        loss, metrics = loss + error, metrics | details
        if self.foresight is not None:
            goal = self.foresight.goal(self.backbone, instruction)
            error, details = self.foresight.loss(batch, latents, goal)
            loss, metrics = loss + error, metrics | details
        return loss, metrics

    def _imagination_loss(
        self, batch: dict[str, Tensor], instruction: Context, scene: Tensor, future: Tensor, state: Tensor
    ) -> tuple[Tensor, Metrics]:
        """Imagined scenes against real ones, and actions: of half the batch at once, of half after imagining.

        So both ways to decide stay in distribution, turn and turn about, which halves every part of a batch
        alike. future: (B, N, K, D), the latents to imagine; state: (B, S), the present one.
        """
        assert self.imagination is not None
        explores, half = is_exploration(batch), len(scene) // 2 if self.config.reactive_half else 0
        rest, first = slice(0, None, 2 if half else 1), slice(1, None, 2)
        informed = instruction.rows(rest)
        told = self.imagination.told(batch)[rest]
        context, sight = self.backbone.extend(informed, [scene[rest]]), self._looking(batch, rest)
        plan, logits = self.imagination.think(self.backbone, context, told, sight)
        readout = self._readout(explores)
        loss = self._action_loss(self._read_plan(informed, scene[rest], plan, readout[rest]), batch, rest)
        metrics = {"imagine_action_loss": loss.detach()}
        if half:
            at_once = self.backbone.extend(instruction.rows(first), [scene[first], readout[first]])
            reactive = self._action_loss(at_once, batch, first)
            metrics["action_loss"] = reactive.detach()
            loss = torch.lerp(loss, reactive, half / len(scene))
        thought = Thought(plan=plan, logits=logits, told=told)
        error, details = self.imagination.loss(thought, self.config, batch, rest, future[rest], state[rest])
        return loss + error, metrics | details

    def _action_loss(self, context: Context, batch: dict[str, Tensor], rows: slice) -> Tensor:
        """The action head's loss on some of the batch, whose context this is."""
        part = rows, slice(self.config.chunk_size)
        return self.head.loss(context.states, batch[ACTION][part], batch["action_is_pad"][part])

    # --- acting -----------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_action_chunk(  # type: ignore[override]
        self,
        batch: dict[str, Tensor],
        noise: Tensor | None = None,
        *,
        inference_delay: int = 0,
        prev_chunk_left_over: Tensor | None = None,
    ) -> Tensor:
        """One chunk (B, H, A), normalised absolute actions.

        noise: (B, *config.noise_shape) of unit variance, drawn from torch's generator if None; the
        temperature scales it. prev_chunk_left_over: (B, P, A) or (P, A), what is left of the chunk before,
        whose first `inference_delay` actions are committed to: see `left_over`. With history or memory, each
        call counts as one more look: call it every `n_action_steps` environment steps.
        """
        prefix = None
        if prev_chunk_left_over is not None:
            left = prev_chunk_left_over[..., : self.config.chunk_size, :]
            prefix = left_over(left.expand(len(batch[OBS_STATE]), -1, -1), inference_delay)
        return self.continue_chunk(batch, noise, prefix)

    @torch.no_grad()
    def continue_chunk(
        self, batch: dict[str, Tensor], noise: Tensor | None = None, prefix: Prefix | None = None
    ) -> Tensor:
        """What `predict_action_chunk` gives; prefix: any, normalised absolute; `IS_FIRST` starts afresh."""
        if self.training:  # walking all modules takes a tenth of a decision
            self.eval()
        batch = self._featured(batch)
        past, history = self.recollection, self.config.n_obs_steps
        self.recollection = look(past, *self._observe(batch), history, batch.get(IS_FIRST))
        latents, state = self.recollection.latents, self.recollection.states
        shape = (state.shape[0], *self.config.noise_shape)  # not len, which an export would fix
        noise = torch.randn(shape, device=state.device) if noise is None else noise
        if tuple(noise.shape) != shape:
            raise ValueError(f"noise of shape {tuple(noise.shape)}: expected {shape}")
        if prefix is not None:
            prefix = Prefix(subtract_anchor(prefix.actions, batch), prefix.weights)
        if self.config.mode == "plan":
            chunk, said = self._plan(batch, latents, state, noise, prefix), None
        else:
            all_read, said = self._think(batch, latents, state, noise)
            noise = noise * self.config.temperature
            chunk = add_anchor(self.head.sample(all_read.states, noise, prefix), batch)
        if self.config.save_predicted_video:
            self._expected = self._expect(batch, latents, state, chunk)
        if self.memory is not None:
            bank = self.memory.keep(self._scene(latents, state), self.recollection.bank, said)
            self.recollection = replace(self.recollection, bank=bank)
        return chunk

    def supports_rtc(self) -> bool:
        """Whether a chunk can continue the one before: LeRobot asks before it hands that over."""
        return self.config.action_head == "flow"

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The next action (B, A), normalised; looks and plans anew every `n_action_steps` calls."""
        if not self._actions:
            chunk = self.predict_action_chunk(batch, noise=noise, **kwargs)
            self._actions.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        self.last_predicted_latents = self._expected  # LeRobot takes it away after every action
        return self._actions.popleft()

    def _expect(self, batch: dict[str, Tensor], latents: Tensor, state: Tensor, chunk: Tensor) -> Tensor:
        """The scene at the chunk's end, (B, K, 1, D): imagined in mode `imagine`, foreseen in the others."""
        if self.config.mode == "imagine" and self.config.imagination == "latent":
            assert self.imagination is not None
            context = self.backbone.extend(self._read(batch), [self._recall(latents, state)])
            return self.imagination.imagine(self.backbone, context)[:, 0, : latents.shape[2]].unsqueeze(2)
        assert self.foresight is not None
        return self.foresight.model.step(latents, chunk).unsqueeze(2)

    def decode_predicted_latents(self, latents: Tensor) -> Tensor:
        """LeRobot's film, (F, H, V * W, 3) uint8, of the first environment's latents (B, K, F, D)."""
        assert self.config.video_decoder is not None
        return film(load_decoder(self.config.video_decoder), latents)

    @torch.no_grad()
    def imagine(self, batch: dict[str, Tensor]) -> Tensor:
        """The plan (B, N, P, D) for the last T looks, or for the present alone, whatever the mode.

        Nothing is kept; its scenes are the first K tokens. ValueError if it was not trained to imagine.
        """
        if self.imagination is None:
            raise ValueError(f"--policy.imagination={self.config.imagination}: expected one that imagines")
        return self.imagination.imagine(self.backbone, self._look(batch), self._looking(batch))

    @torch.no_grad()
    def imagine_subgoals(self, batch: dict[str, Tensor]) -> list[list[str]]:
        """What `imagine` would pursue on the way to each of the N scenes, in words; ValueError if nothing."""
        if self.imagination is None or self.imagination.subgoals is None:
            raise ValueError("--policy.imagine_subgoals=false: expected a policy that was trained with true")
        _, logits = self.imagination.think(self.backbone, self._look(batch), look=self._looking(batch))
        assert logits is not None
        sentences = self.imagination.subgoals.sentences
        return [[sentences[number] for number in row] for row in logits.argmax(2).tolist()]

    def _look(self, batch: dict[str, Tensor]) -> Context:
        """Instruction and scene, for the last T looks or for the present alone."""
        if self.training:
            self.eval()
        latents, state = self._observe(batch)
        if latents.shape[1] == 1:
            history = self.config.n_obs_steps
            latents, state = latents.expand(-1, history, -1, -1), state.expand(-1, history, -1)
        return self.backbone.extend(self._read(batch), [self._recall(latents, state)])

    def _intervened(self, plan: Tensor, batch: dict[str, Tensor], scene: Tensor, noise: Tensor) -> Tensor:
        """The plan (B, N, P, D), or what `config.intervention` puts in its place; noise: the decision's."""
        backbone, imagination, sight = self.backbone, self.imagination, self._looking(batch)
        assert imagination is not None

        def imagine(tokens: Tensor, mask: Tensor) -> Tensor:
            return imagination.imagine(backbone, backbone.extend(backbone.read(tokens, mask), [scene]), sight)

        words, mask = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
        imagined = Imagined(plan=plan, tokens=words, mask=mask, draw=draw_of(noise), imagine=imagine)
        return replace_plan(self.config.intervention, imagined, self.calibration)

    def _think(
        self, batch: dict[str, Tensor], latents: Tensor, state: Tensor, noise: Tensor
    ) -> tuple[Context, Tensor | None]:
        """All that the action head reads, in the present mode, and what of it is to be remembered, if any."""
        instruction, scene = self._read(batch), self._recall(latents, state)
        readout = self._readout(latents.new_zeros(latents.shape[0], dtype=torch.bool))
        if self.config.mode == "reactive" or self.imagination is None:
            return self.backbone.extend(instruction, [scene, readout]), None
        imagine = partial(self.imagination.imagine, self.backbone, look=self._looking(batch))
        plan = imagine(self.backbone.extend(instruction, [scene]))
        plan = said = self._intervened(plan, batch, scene, noise)
        if self.config.memory == "swapped" and self.config.memory_subgoals:  # banks stay their own episode's
            said = imagine(self.backbone.extend(instruction, [self._recall(latents, state, "kept")]))
        said = said[:, self.imagination.pursued, -1:] if self.config.memory_subgoals else None
        return self._read_plan(instruction, scene, plan, readout), said

    @torch.no_grad()
    def propose(self, batch: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """C chunks for each scene, and how good the world model finds them: what `plan` chooses from.

        batch: the last T looks, or one without a time dimension; noise: (B, C, H, A) of unit variance.
        Returns normalised absolute actions (B, C, H, A), the last `exploration` share of them as failed
        episodes acted, and scores (B, C), more is better. ValueError without a world model.
        """
        if self.foresight is None:
            raise ValueError("world_model=false: expected a policy that was trained with a world model")
        candidates, score = self._propose(batch, *self._observe(batch), noise)
        return candidates, score(candidates)

    def _plan(
        self, batch: dict[str, Tensor], latents: Tensor, state: Tensor, noise: Tensor, prefix: Prefix | None
    ) -> Tensor:
        """The best of C proposed chunks, (B, H, A), by what the world model foresees."""
        config = self.config
        noise, refining = noise.split([config.candidates, noise.shape[1] - config.candidates], dim=1)
        candidates, score = self._propose(batch, latents, state, noise, prefix)
        return choose(config, candidates, score, noise, refining)

    def _propose(
        self,
        batch: dict[str, Tensor],
        latents: Tensor,
        state: Tensor,
        noise: Tensor,
        prefix: Prefix | None = None,
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Chunks (B, C, H, A), and the function from such to their scores (B, C)."""
        assert self.foresight is not None
        config = self.config
        instruction, scene = self._read(batch), self._recall(latents, state)
        context = self.backbone.extend(instruction, [scene])
        explores, drawn = torch.zeros(len(state), dtype=torch.bool, device=state.device), noise
        exploring = round(noise.shape[1] * config.exploration)
        noise = noise * config.proposal_temperature
        noise[:, 0] *= config.temperature  # the chunk that `reactive` would take is among them
        parts = noise.split([noise.shape[1] - exploring, exploring], dim=1)
        chunks = []
        for asked, part in zip((explores, ~explores), parts, strict=True):
            if part.shape[1]:
                states = self.backbone.extend(context, [self._readout(asked)]).states
                chunks.append(self.head.sample_many(states, part, prefix))
        candidates = add_anchor(torch.cat(chunks, dim=1), batch)
        imagined = None
        if self.imagination is not None and config.imagination_distance_weight:
            plan = self.imagination.imagine(self.backbone, context, self._looking(batch))
            imagined = self.imagination.scenes(self._intervened(plan, batch, scene, drawn))[:, 0]
        goal = self.foresight.goal(self.backbone, instruction)
        return candidates, partial(self.foresight.score, latents, goal=goal, imagined=imagined)

    # --- reading ----------------------------------------------------------------------------------

    def _featured(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its pictures' features (B, [T,] V, C, h, w), which all that looks at them shares."""
        if FEATURES in batch:
            return batch
        images = stack_cameras([batch[key] for key in self.config.image_features])
        features = self.encoder.features(images.flatten(0, -5))
        return batch | {FEATURES: features.unflatten(0, images.shape[:-4])}

    def _observe(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents (B, T, K, D) and states (B, T, S); T is 1 where the batch has no time dimension."""
        features, state = self._featured(batch)[FEATURES], batch[OBS_STATE]
        if state.ndim == 2:
            features, state = features.unsqueeze(1), state.unsqueeze(1)
        guidance = guide(self.guidance, batch, looks=state.shape[1])
        latents = self.see(features.flatten(0, 1), state.flatten(0, 1), guidance)
        return latents.unflatten(0, features.shape[:2]), state

    def see(self, features: Tensor, state: Tensor, guidance: Tensor | None = None) -> Tensor:
        """Latents (B, K, D) of looks with features (B, V, C, h, w) and normalised states (B, S)."""
        latents = self.encoder.queries(features, guidance)
        return latents if self.sense is None else latents + self.sense(state).view_as(latents)

    def _looking(self, batch: dict[str, Tensor], rows: slice = slice(None)) -> Look | None:
        """What looks at the present pictures of some of the batch for a grounded plan's sub-goals."""
        if self.imagination is None or self.imagination.grounding is None:
            return None
        features, state = self._featured(batch)[FEATURES], batch[OBS_STATE]
        if state.ndim == 3:
            features, state = (looks[:, self.config.n_obs_steps - 1] for looks in (features, state))
        return partial(self.imagination.grounding.look, self.encoder.queries, features[rows], state[rows])

    def _read(self, batch: dict[str, Tensor]) -> Context:
        return self.backbone.read(batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK])

    def _scene(self, latents: Tensor, state: Tensor) -> Tensor:
        """Latents and proprioception of every step of the history as one block (B, T * (K + 1), D)."""
        tokens = [latents, self.embed_state(state, latents).unsqueeze(2)]
        return (torch.cat(tokens, dim=2) + self.history_embedding).flatten(1, 2)

    def _recall(self, latents: Tensor, state: Tensor, way: str = "") -> Tensor:
        """The scene, fused with what the policy remembers of the episode; way: the configuration's, if ''."""
        scene = self._scene(latents, state)
        if self.memory is None or self.recollection is None:
            return scene
        return self.memory.recall(scene, self.recollection.bank, way or self.config.memory)

    def _readout(self, explores: Tensor) -> Tensor:
        """The read-out token (B, 1, D); another one for whom is asked to act as failed episodes did."""
        readout = self.readout.expand(explores.shape[0], -1, -1)
        if self.foresight is None:
            return readout
        return readout + explores[:, None, None].to(readout) * self.foresight.exploration

    def _read_plan(self, instruction: Context, scene: Tensor, plan: Tensor, readout: Tensor) -> Context:
        """Scene and plan (B, N, P, D) as the action head sees them."""
        assert self.imagination is not None
        seen = instruction if self.config.imagination_reads_instruction else instruction.hidden()
        return self.backbone.extend(seen, [scene, *self.imagination.blocks(plan), readout])
