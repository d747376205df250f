"""Whether a world model notices the impossible: prediction errors at edits of the scene, against others.

In the middle of an expert's episode the object is displaced, or painted another colour, just before the model
looks. Its prediction error at that look should stand out from the errors at all looks of the episodes as they
were. Floors: how much pictures change, and how much latents do, from one look to the next.
L looks of an episode, T history moments, h steps of a chunk, A action size, E episodes.
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
    """An episode at its looks, one before and one after every chunk, and what edits would have shown at one.

    seen: by environment step, all that histories need; actions: (L - 1, h, A), between the looks; place:
    number of the look, at least 1, at which `edited` could have been seen instead, by kind of edit.
    """

    seen: Mapping[int, Observation]
    actions: np.ndarray
    place: int
    edited: Mapping[str, Observation]


def film(world: WorldModelUnderTest, stage: Stage, seed: int, behaviour: str) -> Filmed | None:
    """Film an episode up to its success; None if that comes before there is a look in its middle."""
    h = world.chunk_steps
    chunks = stage.steps_to_success(seed, behaviour) // h
    if chunks < 2:
        return None
    generator = np.random.default_rng([seed, 3])
    place = int(generator.integers(1, chunks))
    needed = {step for look in range(chunks + 1) for step in moments(look * h, world.history, world.stride)}
    act, seen, actions, edited = stage.begin(seed, behaviour), {}, [], {}
    for step in range(chunks * h + 1):
        if step in needed:
            seen[step] = stage.env.observe()
        if step == place * h:
            edited = {kind: _edited(stage.env, edit, generator) for kind, edit in EDITS.items()}
        if step < chunks * h:
            actions.append(act(step))
            stage.env.advance(actions[-1])
    return Filmed(
        seen=seen,
        actions=np.stack(actions).astype(np.float32).reshape(chunks, h, -1),
        place=place,
        edited=edited,
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
    """At every look but the first, (L - 1,) per measure, and per kind of edit at the edited look, (1,)."""
    steps = list(filmed.seen)
    chunks = len(filmed.actions)
    looks = [*filmed.seen.values(), *filmed.edited.values()]
    pictures = pictures_of(looks)
    latents = see(world.encode, {name: pictures[name] for name in world.cameras}, states_of(looks))
    past = [moments(look * world.chunk_steps, world.history, world.stride) for look in range(chunks)]
    rows = torch.tensor([[steps.index(step) for step in one] for one in past])
    actions = world.normalise_actions(torch.from_numpy(filmed.actions))
    predicted = world.rollout(latents[rows].to(world.device), actions[:, None])[:, 0].float().cpu()
    before = np.array([steps.index(look * world.chunk_steps) for look in range(chunks)])
    after = np.array([steps.index((look + 1) * world.chunk_steps) for look in range(chunks)])

    def surprise(chosen: np.ndarray, shown: np.ndarray) -> Surprise:
        """Of showing frames `shown` after the chunks `chosen`."""
        return {
            "model": _squared(predicted[chosen], latents[shown]),
            "copy": _squared(latents[before[chosen]], latents[shown]),
            "pixels": np.mean([_change(pictures[name], before[chosen], shown) for name in world.cameras], 0),
        }

    normal = surprise(np.arange(chunks), after)
    at = np.array([filmed.place - 1])
    edits = {kind: surprise(at, np.array([len(steps) + number])) for number, kind in enumerate(filmed.edited)}
    return normal, edits


def _squared(one: Tensor, other: Tensor) -> np.ndarray:
    return (one - other).square().mean((1, 2)).double().numpy()


def _change(pictures: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    difference = pictures[after].astype(np.float64) - pictures[before]
    return np.square(difference / 255).mean((1, 2, 3))


def separate(normal: Sequence[Surprise], edited: Sequence[Surprise], *, seed: int) -> dict[str, Any]:
    """How well each measure tells edited from normal looks: AUROC, 0.5 is chance, for E episodes each.

    Returns `auroc` of the model, with its interval (95 %) from drawing episodes, and of the `floors`.
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
        "edited": len(edited),
        "normal": sum(len(one["model"]) for one in normal),
    }


def surprise_at_edits(
    world: WorldModelUnderTest, stages: Iterable[Stage], *, episodes: int, seed: int
) -> dict[str, Any]:
    """Film `episodes` per task. Returns `edits`: a list of `edit` with what `separate` gives."""
    normal: list[Surprise] = []
    edited: dict[str, list[Surprise]] = {kind: [] for kind in EDITS}
    for stage in stages:
        for index in counted(episodes, f"surprise {stage.task}"):
            filmed = film(world, stage, seed + index, MOVERS[index % len(MOVERS)])
            if filmed is None:
                continue
            usual, by_kind = surprise_of(world, filmed)
            normal.append(usual)
            for kind, one in by_kind.items():
                edited[kind].append(one)
    if not normal:
        return {"edits": [], "episodes": 0}
    found = [{"edit": kind, **separate(normal, edited[kind], seed=seed)} for kind in EDITS]
    return {"edits": found, "episodes": len(normal)}
