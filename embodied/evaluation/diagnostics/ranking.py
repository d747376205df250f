"""Whether a world model knows which of several chunks is best: its order against the simulator's.

For states on the way to success, chunks are proposed and scored as the policy's `plan` mode does, and each
is tried out in the simulator, put back to that state: what it returns there is the truth. Floors: predictors
that see the chunk, or chunk and proprioception, but no picture; and chance.
S states, C candidates, h steps of a chunk, A action size, P size of the proprioceptive state.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied.errors import UserError
from embodied.evaluation.diagnostics.horizon import moments
from embodied.evaluation.diagnostics.measures import bootstrap, spearman
from embodied.evaluation.diagnostics.model import Proposer, WorldModelUnderTest
from embodied.evaluation.diagnostics.regression import REGRESSORS
from embodied.evaluation.diagnostics.scenes import Stage, counted, reach
from envs.simulated import SimulatedEnv

FOLDS = 5
MOST_ATTEMPTS = 20
"""Per state: some episodes are solved on the way there."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Chunks tried out in S states.

    scores, returns: (S, C); chunks: (S, C, h, A) in the actions' units; proprioception: (S, P); tasks: (S,)
    names; exploring: how many of the candidates, the last ones, were proposed as failed episodes acted.
    """

    scores: np.ndarray
    returns: np.ndarray
    chunks: np.ndarray
    proprioception: np.ndarray
    tasks: np.ndarray
    exploring: int


def correlations(scores: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Spearman's correlation in each state, (S, C) twice -> (S,).

    NaN where no chunk makes a difference, zero where only the scores make none.
    """
    found = np.array([spearman(*pair) for pair in zip(scores, returns, strict=True)])
    return np.where(np.ptp(returns, axis=1) > 0, np.nan_to_num(found), np.nan)


def blind_scores(trials: Trials, *, seed: int) -> dict[str, np.ndarray]:
    """What predictors without pictures say of each chunk, (S, C), fitted on other states' chunks.

    They are fitted to returns standardised within each state: its order is all that counts.
    """
    states, count = trials.returns.shape
    kinds = np.unique(trials.tasks)
    is_task = np.repeat((trials.tasks[:, None] == kinds).astype(float), count, axis=0)
    chunk = np.concatenate([trials.chunks.reshape(states * count, -1), is_task], axis=1)
    both = np.concatenate([chunk, np.repeat(trials.proprioception, count, axis=0)], axis=1)
    centred = trials.returns - trials.returns.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    targets = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0).reshape(-1, 1)
    groups = np.repeat(np.arange(states), count)
    fold = np.random.default_rng(seed).permutation(states) % min(FOLDS, states)
    found = {}
    for inputs, features in {"chunk": chunk, "chunk_and_state": both}.items():
        for name, regressor in REGRESSORS.items():
            predicted = np.empty_like(targets)
            for index in np.unique(fold):
                new = np.repeat(fold == index, count)
                fit = (features[~new], targets[~new], groups[~new])
                predicted[new] = regressor(*fit, features[new])
            found[f"{inputs}_{name}"] = predicted.reshape(states, count)
    return found


def compare(trials: Trials, *, seed: int) -> dict[str, Any]:
    """Median correlation over states of the model, with its interval (95 %), and of every floor.

    Also among the candidates of each way to propose alone; `undefined` counts states in which all chunks
    return the same, which are left aside; `tasks` has the medians per task.
    """
    chance = np.random.default_rng(seed).random(trials.scores.shape)
    floors = {"random": chance, **blind_scores(trials, seed=seed)}
    own = correlations(trials.scores, trials.returns)
    beside = {name: correlations(scores, trials.returns) for name, scores in floors.items()}
    low, high = bootstrap(lambda chosen: _median(own[chosen]), len(own), seed=seed)
    imitating = trials.returns.shape[1] - trials.exploring
    parts = {"demonstrated": slice(imitating), "exploring": slice(imitating, None)}
    return {
        "states": len(own),
        "candidates": trials.returns.shape[1],
        "undefined": int(np.isnan(own).sum()),
        "spearman": _median(own),
        "low": float(low),
        "high": float(high),
        "floors": {name: _median(values) for name, values in beside.items()},
        **{
            name: _median(correlations(trials.scores[:, part], trials.returns[:, part]))
            for name, part in parts.items()
            if trials.returns[:, part].shape[1] > 2
        },
        "tasks": [
            {
                "task": str(task),
                "states": int((trials.tasks == task).sum()),
                "spearman": _median(own[trials.tasks == task]),
                "floors": {name: _median(values[trials.tasks == task]) for name, values in beside.items()},
            }
            for task in dict.fromkeys(trials.tasks)
        ],
    }


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def rank_candidates(
    world: WorldModelUnderTest,
    proposer: Proposer,
    stages: Sequence[Stage],
    *,
    states: int,
    candidates: int,
    movers: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Try chunks out in `states` states, shared among the tasks, and `compare`. movers: who gets there."""
    parts = [
        _try_out(world, proposer, stage, states=share, candidates=candidates, movers=movers, seed=seed)
        for stage, share in zip(stages, _shares(states, len(stages)), strict=True)
        if share
    ]
    exploring = round(candidates * proposer.exploration)
    names = ("scores", "returns", "chunks", "proprioception", "tasks")
    trials = Trials(
        exploring=exploring, **{name: np.concatenate([part[name] for part in parts]) for name in names}
    )
    return compare(trials, seed=seed)


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (index < total % parts) for index in range(parts)]


def _try_out(
    world: WorldModelUnderTest,
    proposer: Proposer,
    stage: Stage,
    *,
    states: int,
    candidates: int,
    movers: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    rows: list[tuple[np.ndarray, ...]] = []
    seeds = iter(range(seed, seed + states * MOST_ATTEMPTS))
    for index in counted(states, f"ranking {stage.task}", "state"):
        looks = _find_state(world, stage, movers[index % len(movers)], seeds)
        noise = np.random.default_rng([seed, index]).standard_normal((candidates, *proposer.noise_shape))
        chunks, scores = proposer.propose(looks, stage.env.task_description, noise.astype(np.float32))
        returns = dense_returns(stage.env, chunks)
        rows.append((scores, returns, chunks, looks[-1]["agent_pos"]))
    names = ("scores", "returns", "chunks", "proprioception")
    stacked = {name: np.stack(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
    return {**stacked, "tasks": np.full(states, stage.task)}


def _find_state(world: WorldModelUnderTest, stage: Stage, mover: str, seeds: Iterable[int]) -> list[Any]:
    """Leave the environment in a state that a mover reached; returns its last T looks."""
    for seed in seeds:
        longest = min(stage.steps_to_success(seed), stage.length - world.chunk_steps)
        steps = int(np.random.default_rng([seed, 2]).integers(max(1, longest)))
        looks = reach(stage, seed, mover, steps, moments(steps, world.history, world.stride))
        if looks is not None:
            return looks
    raise UserError(
        f"--env.task={stage.task}: {MOST_ATTEMPTS} episodes per state were solved on the way: expected others"
    )


def dense_returns(env: SimulatedEnv, chunks: np.ndarray) -> np.ndarray:
    """The sum of rewards over each chunk (C, h, A), tried out in the present state, which stays: (C,)."""
    snapshot = env.snapshot()
    returns = np.zeros(len(chunks))
    for index, chunk in enumerate(chunks):
        for action in chunk:
            reward, terminated, truncated, _ = env.advance(action)
            returns[index] += reward
            if terminated or truncated:
                break
        env.restore(snapshot)
    return returns
