"""Whether a world model notices the impossible: prediction errors at edits of the scene, against others.

In the middle of an expert's episode the object is displaced, or painted another colour, just before the model
looks. Its prediction error should then stand out from the errors at the same looks without the edit; at the
same looks, because some moments of an episode are harder to foresee than others. Floors: how much pictures
change, and how much latents do, from one look to the next.
L looks in the middle of an episode, T history moments, h steps of a chunk, A action size, E episodes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied.evaluation.diagnostics.horizon import moments
from embodied.evaluation.diagnostics.measures import auroc, bootstrap
from embodied.evaluation.diagnostics.model import Observation, WorldModelUnderTest, see
from embodied.evaluation.diagnostics.scenes import Stage, counted, pictures_of, states_of
from envs.simulated import SimulatedEnv

EDITS: dict[str, Callable[[SimulatedEnv, np.random.Generator], None]] = {
    "displaced": lambda env, generator: env.displace_object(generator),
    "repainted": lambda env, generator: env.repaint_object(generator),
}
MOVERS = ("expert", "noisy")
FLOORS = ("copy", "pixels")

Surprise = dict[str, np.ndarray]
"""Prediction error of the `model`, change of the latents (`copy`) and of the `pixels`, at some looks."""


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """An episode at its looks, one after every chunk, and what edits would have shown at each.

    seen: by environment step, all that histories need; actions: (L, h, A), the chunks before the looks;
    edited: per kind of edit, what could have been seen at the L looks instead.
    """

    seen: Mapping[int, Observation]
    actions: np.ndarray
    edited: Mapping[str, Sequence[Observation]]


def film(world: WorldModelUnderTest, stage: Stage, seed: int, behaviour: str) -> Filmed | None:
    """Film an episode up to its last whole chunk before success; None if there is none."""
    h = world.chunk_steps
    looks = (stage.steps_to_success(seed, behaviour) - 1) // h
    if not looks:
        return None
    generator = np.random.default_rng([seed, 3])
    needed = {step for look in range(looks + 1) for step in moments(look * h, world.history, world.stride)}
    act, seen, actions = stage.begin(seed, behaviour), {}, []
    edited: dict[str, list[Observation]] = {kind: [] for kind in EDITS}
    for step in range(looks * h + 1):
        if step in needed:
            seen[step] = stage.env.observe()
        if step and step % h == 0:
            for kind, edit in EDITS.items():
                edited[kind].append(_edited(stage.env, edit, generator))
        if step < looks * h:
            actions.append(act(step))
            stage.env.advance(actions[-1])
    return Filmed(
        seen=seen, actions=np.stack(actions).astype(np.float32).reshape(looks, h, -1), edited=edited
    )


def _edited(
    env: SimulatedEnv,
    edit: Callable[[SimulatedEnv, np.random.Generator], None],
    generator: np.random.Generator,
) -> Observation:
    """What would be seen after an edit, which is undone."""
    snapshot = env.snapshot()
    edit(env, generator)
    observation = env.observe()
    env.restore(snapshot)
    return observation


@torch.no_grad()
def surprise_of(world: WorldModelUnderTest, filmed: Filmed) -> tuple[Surprise, dict[str, Surprise]]:
    """At every look, (L,) per measure: as it was, and after each kind of edit."""
    steps, looks = list(filmed.seen), len(filmed.actions)
    shown = [*filmed.seen.values(), *(one for edited in filmed.edited.values() for one in edited)]
    pictures = pictures_of(shown)
    latents = see(world.encode, {name: pictures[name] for name in world.cameras}, states_of(shown))
    past = [moments(look * world.chunk_steps, world.history, world.stride) for look in range(looks)]
    rows = torch.tensor([[steps.index(step) for step in one] for one in past])
    actions = world.normalise_actions(torch.from_numpy(filmed.actions))
    predicted = world.rollout(latents[rows].to(world.device), actions[:, None])[:, 0].float().cpu()
    before = np.array([steps.index(look * world.chunk_steps) for look in range(looks)])

    def surprise(after: np.ndarray) -> Surprise:
        """If these frames are what is seen at the looks."""
        return {
            "model": _squared(predicted, latents[after]),
            "copy": _squared(latents[before], latents[after]),
            "pixels": np.mean([_change(pictures[name], before, after) for name in world.cameras], 0),
        }

    normal = surprise(np.array([steps.index((look + 1) * world.chunk_steps) for look in range(looks)]))
    frames = np.arange(len(steps), len(shown)).reshape(-1, looks)
    return normal, {kind: surprise(after) for kind, after in zip(filmed.edited, frames, strict=True)}


def _squared(one: Tensor, other: Tensor) -> np.ndarray:
    return (one - other).square().mean((1, 2)).double().numpy()


def _change(pictures: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    difference = pictures[after].astype(np.float64) - pictures[before]
    return np.square(difference / 255).mean((1, 2, 3))


def separate(normal: Sequence[Surprise], edited: Sequence[Surprise], *, seed: int) -> dict[str, Any]:
    """How well each measure tells edited from normal looks, of the same E episodes: AUROC, 0.5 is chance.

    Returns `auroc` of the model, with its interval (95 %) from drawing episodes, that of the `floors`, and
    the number of `looks`, with and without the edit.
    """

    def score(measure: str, chosen: Iterable[int]) -> float:
        picked = list(chosen)
        positives, negatives = (
            np.concatenate([episodes[index][measure] for index in picked]) for episodes in (edited, normal)
        )
        return auroc(positives, negatives)

    everyone = range(len(normal))
    low, high = bootstrap(lambda chosen: score("model", chosen), len(normal), seed=seed, resamples=300)
    return {
        "auroc": score("model", everyone),
        "low": float(low),
        "high": float(high),
        "floors": {floor: score(floor, everyone) for floor in FLOORS},
        "looks": sum(len(one["model"]) for one in normal),
    }


def surprise_at_edits(
    world: WorldModelUnderTest, stages: Iterable[Stage], *, episodes: int, seed: int
) -> dict[str, Any]:
    """Film `episodes` per task. Returns `edits`: rows of `edit`, `task`, what `separate` gives."""
    found: dict[str, list[tuple[Surprise, dict[str, Surprise]]]] = {}
    for stage in stages:
        films = [
            film(world, stage, seed + index, MOVERS[index % len(MOVERS)])
            for index in counted(episodes, f"surprise {stage.task}")
        ]
        found[stage.task] = [surprise_of(world, filmed) for filmed in films if filmed is not None]
    everything = [pair for pairs in found.values() for pair in pairs]
    scopes = {"all": everything, **found}
    rows = [
        {
            "edit": kind,
            "task": scope,
            **separate([normal for normal, _ in pairs], [edits[kind] for _, edits in pairs], seed=seed),
        }
        for kind in EDITS
        for scope, pairs in scopes.items()
        if pairs
    ]
    return {"edits": rows, "episodes": len(everything)}
