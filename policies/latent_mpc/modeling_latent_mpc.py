"""The planning policy: at every look it searches for the chunks whose foreseen outcome costs least.

Model-predictive control in the latents of a world model that was trained before (PLDM, arXiv 2502.14819;
TD-MPC2, arXiv 2310.16828). Where to: what the cameras shall see, a picture per camera; or a scene that the
world model's own policy imagines from the instruction; or wherever its heads read the most reward and value.
Goal pictures travel in the batch, under `goal_key` of each camera, so that each episode has its own.

B batch, T history moments, V cameras, C candidates, N chunks of h environment steps, K latent tokens,
D width, A action size, S state size, G width of the instruction's description.
"""

from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import OBS_STATE
from torch import Tensor

from policies.latent_mpc.configuration_latent_mpc import (
    GOAL_PREFIX,
    NOT_TRAINED,
    LatentMPCConfig,
    goal_key,
)
from policies.latent_mpc.processor_latent_mpc import action_range, load_preprocessor
from policies.latent_mpc.worlds import load_world, make_world
from policies.latent_vla.relative_actions import ACTION_ANCHOR
from world_models.costs import foresee, goal_distance, shortfall, unlikeliness
from world_models.encoders import stack_cameras
from world_models.planners import Plan, Planner, PlannerConfig, Start, make_planner, shift
from world_models.planners.budget import measure, seconds_of, spend


@dataclass(frozen=True, kw_only=True)
class Situation:
    """All that a search needs to know of an observation.

    history: (B, T, K, D); centre: (B, 1, 1, A), what actions are counted from; goal: (B, N, K, D) or
    (B, 1, K, D), description: (B, G), None where they do not count.
    """

    history: Tensor
    centre: Tensor
    goal: Tensor | None
    description: Tensor | None


class LatentMPCPolicy(PreTrainedPolicy):
    """Plans over a world model that it holds."""

    config_class = LatentMPCConfig  # type: ignore[assignment]
    name = "latent_mpc"  # type: ignore[assignment]

    def __init__(self, config: LatentMPCConfig, dataset_stats: Any = None, dataset_meta: Any = None) -> None:
        """A new policy reads `config.world_model_path`; one whose configuration describes its world model
        expects to be given the weights. Statistics and metadata, which LeRobot passes, are not needed.
        """
        super().__init__(config)
        bounds = None
        if config.world_model:
            description, self.world = config.world_model, make_world(config.world_model)
        elif config.world_model_path is None:
            raise ValueError("--policy.world_model_path is missing: expected the checkpoint of a world model")
        else:
            description, self.world = load_world(config.world_model_path)
            bounds = action_range(load_preprocessor(config))
        config.adopt(description, self.world.specification)
        self.config: LatentMPCConfig = config
        if bounds is None:
            bounds = torch.tensor([[-torch.inf], [torch.inf]]).repeat(1, config.plan_shape[-1])
        self.bounds: Tensor
        self.register_buffer("bounds", bounds)
        self._planner = make_planner(config.planner, config.search)
        self.requires_grad_(False)
        self.reset()

    def get_optim_params(self) -> dict:
        """Raise ValueError: the world model is trained elsewhere."""
        raise ValueError(NOT_TRAINED)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict | None]:
        """Raise ValueError: the world model is trained elsewhere."""
        raise ValueError(NOT_TRAINED)

    def reset(self) -> None:
        """Forget history, warm start and action queue: call at every episode's start."""
        self._actions: deque[Tensor] = deque()
        self._history: deque[tuple[Tensor, Tensor | None]] = deque(maxlen=self.config.n_obs_steps)
        self._previous: Tensor | None = None

    # --- acting -----------------------------------------------------------------------------------

    def predict_action_chunk(
        self, batch: dict[str, Tensor], noise: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """The plan (B, N * h, A), normalised absolute actions.

        noise: (B, *config.noise_shape) of unit variance, drawn from torch's generator if None. Each call
        counts as `n_action_steps` environment steps after the one before, of the same episodes: history and
        warm start go by that.

        Raises:
            ValueError: goal pictures are missing or of the wrong size, noise is, or the batch has changed its
                size without `reset`.
        """
        if kwargs:
            raise TypeError(f"predict_action_chunk got {sorted(kwargs)}: expected only noise")
        if self.training:
            self.eval()
        # A search by gradient saves tensors for autograd, which those made in inference mode refuse.
        with torch.inference_mode(False), torch.no_grad():
            situation = self._look(batch)
            shape = (len(situation.history), *self.config.noise_shape)
            if noise is None:
                noise = torch.randn(shape, device=situation.history.device)
            if tuple(noise.shape) != shape:
                raise ValueError(f"noise of shape {tuple(noise.shape)}: expected {shape}")
            plan = self._search(self._planner, situation, noise)
            self._previous = plan.mean - situation.centre
            return plan.actions.flatten(1, 2)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The next action (B, A), normalised; looks and plans anew every `n_action_steps` calls."""
        if not self._actions:
            chunk = self.predict_action_chunk(batch, noise=noise, **kwargs)
            self._actions.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._actions.popleft()

    def fit_budget(self, batch: dict[str, Tensor], milliseconds: float) -> None:
        """Set candidates and iterations to what a decision on `batch` can do in that time, once, at start-up.

        The episode starts anew. Raises ValueError for a budget in which nothing can be planned.
        """
        device, shape = self.bounds.device, self.config.plan_shape

        def search(candidates: int) -> Plan:
            config = replace(self.config.search, candidates=candidates, iterations=1, elites=2, kept=0)
            planner = make_planner(self.config.planner, config)
            noise = torch.zeros(rows, planner.rounds, candidates, *shape, device=device)
            return self._search(planner, situation, noise)

        with torch.inference_mode(False), torch.no_grad():
            situation = self._look(batch)
            rows = len(situation.history)
            looking = seconds_of(lambda: self._look(batch), device)
            bought = spend(self.config.search, milliseconds - 1000 * looking, *measure(search, device))
        self._set_search(bought)
        self.reset()

    def _set_search(self, search: PlannerConfig) -> None:
        for name, value in vars(search).items():
            setattr(self.config, name, value)
        self._planner = make_planner(self.config.planner, search)

    def _search(self, planner: Planner, situation: Situation, noise: Tensor) -> Plan:
        """From the rest of the plan before, or from the centre; the spread is that of any first search."""
        config = self.config
        rows, centre = len(situation.history), situation.centre
        mean = centre.expand(rows, *config.plan_shape)
        if self._previous is not None and config.goes_on:
            if len(self._previous) != rows:
                raise ValueError(
                    f"a batch of {rows} after one of {len(self._previous)}: expected reset() in between"
                )
            mean = centre + shift(self._previous, config.n_action_steps, torch.zeros_like(centre))
        if config.begin == "inverse":
            mean = self._invert(situation)
        low, high = self.bounds.clamp(-config.action_limit, config.action_limit)
        start = Start(
            mean=mean,
            std=torch.full_like(mean, config.start_std),
            low=centre + low,
            high=centre + high,
        )
        return planner.plan(partial(self._cost, situation), start, noise)

    def _invert(self, situation: Situation) -> Tensor:
        """What the world model's inverse dynamics do from here and from where that leads, (B, N, h, A)."""
        assert situation.goal is not None
        history, chunks = situation.history, []
        for step in range(self.config.plan_chunks):
            goal = situation.goal[:, min(step, situation.goal.shape[1] - 1)]
            chunks.append(self.world.inverse(history[:, -1], goal))
            foreseen = self.world.rollout(history, chunks[-1].unsqueeze(1))
            history = torch.cat([history[:, 1:], foreseen], dim=1)
        return torch.stack(chunks, dim=1)

    def _cost(self, situation: Situation, candidates: Tensor) -> Tensor:
        """(B, C) of candidates (B, C, N, h, A)."""
        config, (rows, count, chunks) = self.config, candidates.shape[:3]
        foreseen = foresee(self.world, situation.history, candidates)
        cost = candidates.new_zeros(rows, count)
        if situation.goal is not None:
            cost = cost + config.goal_weight * goal_distance(foreseen, situation.goal, over=config.goal_over)
        if situation.description is not None:
            description = situation.description.repeat_interleave(count * chunks, dim=0)
            read = self.world.outcomes(foreseen.flatten(0, 2), description)
            for weight, readings, over in (
                (config.reward_weight, read.reward, "mean"),
                (config.value_weight, read.value, "final"),
            ):
                if weight:
                    assert readings is not None
                    cost = cost + weight * shortfall(readings.view(rows, count, chunks), over=over)
        if config.prior_weight:
            one = torch.ones_like(situation.centre)
            cost = cost + config.prior_weight * unlikeliness(candidates, situation.centre, one)
        return cost

    # --- reading ----------------------------------------------------------------------------------

    def _look(self, batch: dict[str, Tensor]) -> Situation:
        """Take in one observation: it counts in the history."""
        cameras = list(self.config.image_features)
        latents, states = self._remember(
            self.world.encode(stack_cameras([batch[key] for key in cameras])), batch.get(OBS_STATE)
        )
        centre = batch.get(ACTION_ANCHOR)
        if centre is None:
            centre = latents.new_zeros(len(latents), self.config.plan_shape[-1])
        goal = None
        if self.config.goal == "image":
            goal = self.world.encode(self._goal_pictures(batch)).unsqueeze(1)
        elif self.config.goal == "imagined":
            goal = self._imagined_goal(batch, latents, states)
        return Situation(
            history=latents,
            centre=centre[:, None, None].float(),
            goal=goal,
            description=self.world.describe(batch) if self.config.reads_outcomes else None,
        )

    def _remember(self, latents: Tensor, states: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Append one look to the history, whose start repeats the first: (B, T, K, D) and (B, T, S)."""
        self._history.append((latents, states))
        while len(self._history) < self.config.n_obs_steps:
            self._history.appendleft(self._history[0])
        past_latents, past_states = zip(*self._history, strict=True)
        return torch.stack(past_latents, dim=1), None if states is None else torch.stack(past_states, dim=1)

    def _imagined_goal(self, batch: dict[str, Tensor], latents: Tensor, states: Tensor | None) -> Tensor:
        """A scene for the end of each chunk, (B, N, K, D); the last imagined one stays the goal beyond it."""
        assert states is not None
        imagined = self.world.imagine(batch, latents, states)
        steps = torch.arange(self.config.plan_chunks, device=imagined.device)
        return imagined[:, steps.clamp_max(imagined.shape[1] - 1)]

    def _goal_pictures(self, batch: dict[str, Tensor]) -> Tensor:
        """(B, V, 3, H, W); ValueError naming the first camera that does not fit."""
        pictures = []
        for camera, feature in self.config.image_features.items():
            key, expected = goal_key(camera), tuple(feature.shape)
            if key not in batch:
                found = sorted(name for name in batch if name.startswith(GOAL_PREFIX))
                raise ValueError(f"goal pictures {', '.join(found) or 'none'}: expected {key}")
            if tuple(batch[key].shape[1:]) != expected:
                sizes = ["x".join(map(str, size)) for size in (batch[key].shape[1:], expected)]
                raise ValueError(f"goal picture {key} is {sizes[0]}: expected {sizes[1]}")
            pictures.append(batch[key])
        return stack_cameras(pictures)
