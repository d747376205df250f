"""`embodied evaluate --model.path=...`: what a world model is worth, every number beside its floor."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied.config import DatasetConfig, DiagnoseConfig
from embodied.data.cache import FrameCache
from embodied.errors import UserError
from embodied.evaluation.agents import make_agent
from embodied.evaluation.diagnostics.goals import reach_goals
from embodied.evaluation.diagnostics.holders import Held, load_held
from embodied.evaluation.diagnostics.horizon import horizon_errors
from embodied.evaluation.diagnostics.model import check_dataset, check_env
from embodied.evaluation.diagnostics.printout import format_diagnostics
from embodied.evaluation.diagnostics.probes import probe_scenes
from embodied.evaluation.diagnostics.ranking import rank_candidates
from embodied.evaluation.diagnostics.scenes import Stage
from embodied.evaluation.diagnostics.surprise import surprise_at_edits
from embodied.evaluation.evaluate import checkpoint_origin
from embodied.evaluation.held_out import open_held_out
from embodied.evaluation.policy_loading import check_fits, load_planner
from embodied.lerobot_plugin import SimulatedEnvConfig, require_simulated
from embodied.manifest import write_json
from embodied.rollout import Agent

RESULT_FILE = "diagnostics.json"
SEEDS_EACH = 10_000
"""Environment seeds between those of one diagnostic and the next, so that none sees another's scenes."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a diagnostic may use: model, planner and data set if they are needed, the simulated tasks.

    movers: who leads to the states in which chunks are ranked.
    """

    config: DiagnoseConfig
    model: Held
    planner: Agent | None
    cache: FrameCache | None
    stages: list[Stage]
    movers: tuple[str, ...]

    def seed(self, name: str) -> int:
        """The first environment seed of a diagnostic."""
        return self.config.seed + SEEDS_EACH * list(DIAGNOSTICS).index(name)


def _rollout(subject: Subject) -> dict[str, Any]:
    config, cache = subject.config, subject.cache
    assert cache is not None
    seed = subject.seed("rollout")
    found = horizon_errors(subject.model.world, cache, horizon=config.horizon, seed=seed)
    return {**found, "dataset": {"root": str(cache.root), "fingerprint": cache.fingerprint}}


def _probes(subject: Subject) -> dict[str, Any]:
    world, episodes = subject.model.world, subject.config.probe_episodes
    return probe_scenes(world, subject.stages, episodes=episodes, seed=subject.seed("probes"))


def _ranking(subject: Subject) -> dict[str, Any]:
    config, model = subject.config, subject.model
    assert model.proposer is not None
    return rank_candidates(
        model.world,
        model.proposer,
        subject.stages,
        states=config.states,
        candidates=config.candidates,
        movers=subject.movers,
        seed=subject.seed("ranking"),
    )


def _surprise(subject: Subject) -> dict[str, Any]:
    world, episodes = subject.model.world, subject.config.edited_episodes
    return surprise_at_edits(world, subject.stages, episodes=episodes, seed=subject.seed("surprise"))


def _goals(subject: Subject) -> dict[str, Any]:
    assert subject.planner is not None
    seed = subject.seed("goals")
    return reach_goals(subject.planner, subject.stages, goals=subject.config.goals, seed=seed)


DIAGNOSTICS: dict[str, Callable[[Subject], dict[str, Any]]] = {
    "rollout": _rollout,
    "probes": _probes,
    "ranking": _ranking,
    "surprise": _surprise,
    "goals": _goals,
}


def diagnose(config: DiagnoseConfig) -> dict[str, Any]:
    """Look into a world model, print a table and return the result as JSON values.

    Returns `diagnostics`, by name what each of `config.diagnostics` gives, `checkpoint`, `env`, and what
    `provenance` gives. With an output_dir the result goes to `diagnostics.json` in it.

    Raises:
        UserError: a checkpoint without a world model, cameras or actions of other sizes in environment or
            data set, a data set that the model was trained on, or none where one is needed.
    """
    names = _chosen(config.diagnostics)
    env = require_simulated(config.env)
    model = load_held(config.model.path, config.device, config.model_overrides)
    check_env(model.world, env)
    if model.policy is not None:
        check_fits(model.policy[0].config, env)
    if "ranking" in names and model.proposer is None:
        raise UserError("--diagnostics=ranking: expected a checkpoint that proposes chunks, a latent_vla")
    cache = _open_held_out(config.dataset, model, config.model.path) if "rollout" in names else None
    planner = _make_planner(config) if "goals" in names else None
    agent = None if model.policy is None else make_agent(*model.policy)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        stages = [stack.enter_context(Stage(env, task, agent)) for task in env.tasks]
        movers = ("noisy", "noisy") if agent is None else ("noisy", "policy")
        subject = Subject(
            config=config, model=model, planner=planner, cache=cache, stages=stages, movers=movers
        )
        for name in names:
            found[name] = DIAGNOSTICS[name](subject)
    result = _as_json(
        {"diagnostics": found, "env": _describe(env), **checkpoint_origin(config.model.path, config.seed)}
    )
    print(format_diagnostics(found))
    if config.output_dir is not None:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        write_json(config.output_dir / RESULT_FILE, result)
    return result


def _chosen(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DIAGNOSTICS]
    if unknown or not names or len(set(names)) < len(names):
        wrong = unknown[0] if unknown else text
        raise UserError(f"--diagnostics={wrong}: expected some of {', '.join(DIAGNOSTICS)}, each once")
    return names


def _make_planner(config: DiagnoseConfig) -> Agent:
    flags = [f"--{flag.strip()}" for flag in config.planning.split(",") if flag.strip()]
    return make_agent(*load_planner(config.model.path, config.device, flags))


def _open_held_out(dataset: DatasetConfig | None, model: Held, path: Path) -> FrameCache:
    if dataset is None:
        others = ",".join(name for name in DIAGNOSTICS if name != "rollout")
        raise UserError(
            f"--dataset.root is missing: expected held-out episodes for rollout, or --diagnostics={others}"
        )
    cache = open_held_out(dataset, path)
    check_dataset(model.world, cache)
    return cache


def _describe(env: SimulatedEnvConfig) -> dict[str, Any]:
    return {"type": env.type, "task": env.task, **env.gym_kwargs}


def _as_json(value: Any) -> Any:
    """The same in JSON's own types; what is not a number becomes null."""
    return json.loads(json.dumps(value, default=float), parse_constant=lambda _: None)
