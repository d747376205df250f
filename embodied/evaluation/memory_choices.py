"""Whose memory decides? Two episodes with different cues run side by side, and what each chooses is noted.

With the memory swapped, each acts on what the other has been shown: if the bank carries the cue, then what is
chosen is the other's. Cues mean the same in every scene: a color at level 1, a side at level 2, a number at
level 3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from tqdm import tqdm

from embodied.evaluation.statistics import wilson_interval
from embodied.rendering_backend import use_renderer
from embodied.reporting.formats import interval, percent
from embodied.rollout import Agent, Episode

use_renderer()

from envs.chunk import ChunkWrapper  # noqa: E402  (MuJoCo binds its OpenGL backend on import)
from envs.so101 import SO101Env  # noqa: E402
from envs.tasks.memory import CUE, CUPS, PADS, PRESSES  # noqa: E402

KINDS = ("own", "other", "third", "none")
"""What an episode chose: as its own cue says, as the other's, as neither's; nothing in time."""


def cue(env: SO101Env) -> int:
    """What an episode shows, 0 to 2: a color, a side, or one less than how often to press."""
    return int(_numbers(env)[CUE])


def chosen(env: SO101Env, is_in_time: bool) -> int | None:
    """What an episode that has ended chose, as `cue` counts; None if nothing in time."""
    if not is_in_time:
        return None
    places = env.landmarks()
    if "button" in places:
        return int(_numbers(env)[PRESSES]) - 1
    names = PADS if PADS[0] in places else CUPS
    return int(np.argmin([np.linalg.norm(places["gripper"] - places[name]) for name in names]))


def pairs_of_seeds(make_env: Callable[[], SO101Env], first_seed: int) -> Iterator[tuple[int, int]]:
    """Seeds from `first_seed` on, each once, two with different cues at a time."""
    env, waiting = make_env(), dict[int, int]()
    for seed in count(first_seed):
        env.restart(seed=seed)
        own = cue(env)
        other = next((each for each, its in waiting.items() if its != own), None)
        if other is None:
            waiting[seed] = own
        else:
            del waiting[other]
            yield other, seed


def run_pair(
    agent: Agent, make_env: Callable[[], SO101Env], task: str, seeds: Sequence[int]
) -> tuple[str, str]:
    """Run two episodes as one batch; returns one of KINDS for each."""
    envs = [ChunkWrapper(make_env(), agent.chunk_steps) for _ in seeds]
    episodes = [Episode(task=task, seed=seed) for seed in seeds]
    observations: list[Any] = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    simulations: list[Any] = [env.env for env in envs]
    cues = [cue(simulation) for simulation in simulations]
    choices: list[int | None] = [None, None]
    running = {0, 1}
    agent.begin(simulations[0].action_space)
    for looks in count():
        if not running:
            break
        told = [simulation.task_description for simulation in simulations]
        chunks = agent.act(_stack(observations), told, episodes, [looks, looks])
        for index in sorted(running):
            observations[index], _, terminated, truncated, _ = envs[index].step(chunks[index])
            if terminated or truncated:
                running.remove(index)
                choices[index] = chosen(simulations[index], terminated)
    for env in envs:
        env.close()
    return _kind(choices[0], *cues), _kind(choices[1], *reversed(cues))


def count_choices(
    agent: Agent, make_env: Callable[[], SO101Env], task: str, *, pairs: int, first_seed: int
) -> dict[str, int]:
    """How often each of KINDS was chosen by the episodes of so many pairs."""
    seeds = pairs_of_seeds(make_env, first_seed)
    kinds = [
        kind for _ in tqdm(range(pairs), desc=task) for kind in run_pair(agent, make_env, task, next(seeds))
    ]
    return {kind: kinds.count(kind) for kind in KINDS}


def choice_rows(counts: Mapping[str, Sequence[Mapping[str, int]]]) -> list[list[str]]:
    """Lines of a table: a name's words, then the share of each of KINDS with Wilson's interval (95 %).

    counts: by name, what `count_choices` gave per checkpoint.
    """
    rows = []
    for name, each in counts.items():
        sums = [sum(one[kind] for one in each) for kind in KINDS]
        cells = [f"{percent(n / sum(sums))} ({interval(*wilson_interval(n, sum(sums)))})" for n in sums]
        rows.append([*name.split(), *cells])
    return rows


def _numbers(env: SO101Env) -> np.ndarray:
    things = len(env.landmarks()) - 1
    return env.privileged_state()[6 + 7 * things :]


def _kind(choice: int | None, own: int, other: int) -> str:
    return {None: "none", own: "own", other: "other"}.get(choice, "third")


def _stack(observations: Sequence[Any]) -> Any:
    if isinstance(observations[0], dict):
        return {key: _stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
