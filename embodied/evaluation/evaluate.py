"""How good a checkpoint is: success on given environment seeds, beside what blind actions reach there."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lerobot.envs.configs import EnvConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline

from embodied.config import EvaluateConfig
from embodied.errors import UserError
from embodied.evaluation.abilities import ability_profile, profile_lines
from embodied.evaluation.agents import make_agent
from embodied.evaluation.calibration import prepare_intervention
from embodied.evaluation.floors import FLOORS
from embodied.evaluation.policy_loading import check_fits, load_planner, load_policy
from embodied.evaluation.statistics import percentiles_ms
from embodied.evaluation.summary import Row, align, episode_rows, format_table, summarise, write_rows
from embodied.evaluation.videos import save_recordings
from embodied.export.agent import export_origin, load_exported
from embodied.lerobot_plugin import SimulatedEnvConfig, require_simulated
from embodied.manifest import MANIFEST, read_json, write_json
from embodied.rollout import Agent, Episode, EpisodeResult, ExpertFn, rollout
from embodied.serving.export_folder import is_export
from embodied.training.checkpoint import resolve_checkpoint
from embodied.training.provenance import provenance


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a checkpoint or an exported policy, print a table and return the result as JSON values.

    Beside what `summarise` gives: `floors` (the same for random and for no actions), `latency_ms` (p50 and
    p95 of a decision for one environment alone, None where none can be alone), `checkpoint`, `policy` (its
    type, or `exported`), `env`, what `provenance` gives and, with tasks of the ability suite, `profile`, of
    which `abilities` is an `ability_profile`.
    With an output_dir, the result goes to `evaluation.json`, episode rows to `episodes.jsonl` and films to
    `videos/` in it.
    Raises UserError for a checkpoint or an environment that cannot be used.
    """
    env = require_simulated(config.env)
    if config.videos and config.output_dir is None:
        raise UserError(f"--videos={config.videos}: expected --output_dir as well, for the films")
    subject = (_exported if is_export(config.policy.path) else _trained)(config, env)
    agent = subject.agent
    episodes = list_episodes(env, config.episodes, config.seed, recorded=config.videos)
    expert_fns = {task: env.expert_fn(task) for task in env.tasks} if config.videos else None
    results = run_agent(agent, env, episodes, num_envs=config.num_envs, expert_fns=expert_fns)
    rows = episode_rows("policy", results)
    summary = summarise(rows)
    floors: dict[str, Any] = {}
    for name in FLOORS if config.floors else ():
        floor_rows = episode_rows(name, run_floor(name, env, episodes, num_envs=config.num_envs))
        floors[name] = summarise(floor_rows)
        rows += floor_rows
    alone = () if agent.sociable else run_agent(agent, env, episodes[:1], num_envs=1, description="latency")
    if config.output_dir is not None:
        write_rows(rows, config.output_dir / "episodes.jsonl")
        save_recordings(results, config.output_dir / "videos")
    print(format_table(summary, floors))
    profile = ability_profile(summary["tasks"], floors)
    if profile:
        print(f"\n{align(profile_lines(profile))}")
    result = {
        **summary,
        **({"profile": {"abilities": profile}} if profile else {}),
        "floors": floors,
        "latency_ms": percentiles_ms([seconds for result in alone for seconds in result.decision_seconds]),
        "policy": subject.kind,
        "env": {"type": env.type, "task": env.task, **json.loads(json.dumps(env.gym_kwargs))},
        **subject.origin,
    }
    if config.output_dir is not None:
        write_json(config.output_dir / "evaluation.json", result)
    return result


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is evaluated. kind: of policy; origin: what `checkpoint_origin` gives."""

    agent: Agent
    kind: str
    origin: dict[str, Any]


def _trained(config: EvaluateConfig, env: SimulatedEnvConfig) -> Subject:
    load = load_policy if config.policy.world_model_path is None else load_planner
    policy, preprocessor, postprocessor = load(config.policy.folder, config.device, config.policy_overrides)
    check_fits(policy.config, env, preprocessor)
    prepare_intervention(policy, preprocessor, config.calibration)
    return Subject(
        agent=make_agent(policy, preprocessor, postprocessor),
        kind=policy.config.type,
        origin=checkpoint_origin(config.policy.folder, config.seed),
    )


def _exported(config: EvaluateConfig, env: SimulatedEnvConfig) -> Subject:
    folder = config.policy.folder
    if config.calibration is not None:
        given = f"--calibration.root={config.calibration.root}"
        raise UserError(f"{given}: {folder} is an exported policy: expected none, it has no interventions")
    agent = load_exported(folder, env, config.device, config.policy_overrides)
    return Subject(agent=agent, kind="exported", origin=export_origin(folder, config.seed))


def evaluate_policy(
    policy: PreTrainedPolicy,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
    env_config: EnvConfig,
    *,
    episodes: int,
    seed: int,
    num_envs: int | None = None,
) -> list[Row]:
    """Evaluate a policy in memory: a row per episode, episode i of each task on environment seed `seed + i`.

    The policy's training mode and torch's random state are as before afterwards. Raises UserError if the
    policy and the environment do not fit.
    """
    env = require_simulated(env_config)
    check_fits(policy.config, env, preprocessor)
    was_training = policy.training
    policy.eval()
    try:
        agent = make_agent(policy, preprocessor, postprocessor)
        results = run_agent(agent, env, list_episodes(env, episodes, seed), num_envs=num_envs)
    finally:
        policy.train(was_training)
    return episode_rows("policy", results)


def list_episodes(env: SimulatedEnvConfig, episodes: int, seed: int, recorded: int = 0) -> list[Episode]:
    """Episodes of every task of `env` on seeds from `seed` on; each task's first `recorded` keep pictures."""
    return [
        Episode(task=task, seed=seed + index, record=index < recorded)
        for task in env.tasks
        for index in range(episodes)
    ]


def run_agent(
    agent: Agent,
    env: SimulatedEnvConfig,
    episodes: Sequence[Episode],
    *,
    num_envs: int | None = None,
    expert_fns: Mapping[str, ExpertFn] | None = None,
    description: str = "policy",
    finished: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Roll `agent` out in `env`; torch's random state is as before afterwards.

    expert_fns: makers of the experts that name the sub-goals of recorded episodes; finished: told of every
    episode when it ends.
    """
    env_fns = {task: env.env_fn(task) for task in env.tasks}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        return rollout(
            env_fns,
            agent,
            episodes,
            num_envs=num_envs,
            expert_fns=expert_fns,
            description=description,
            finished=finished,
        )


def run_floor(
    name: str,
    env: SimulatedEnvConfig,
    episodes: Sequence[Episode],
    *,
    num_envs: int | None = None,
    finished: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Roll one of FLOORS out, without films."""
    unrecorded = [dataclasses.replace(episode, record=False) for episode in episodes]
    longest = max(env.length(task) for task in env.tasks)
    agent = FLOORS[name](longest, env.env_fn(env.tasks[0])().actions_are_targets)
    return run_agent(agent, env, unrecorded, num_envs=num_envs, description=name, finished=finished)


def checkpoint_origin(path: Path, seed: int) -> dict[str, Any]:
    """Which checkpoint, trained on which data, and what `provenance` says about this run."""
    folder = resolve_checkpoint(path)
    trained = read_json(folder / "provenance.json") if (folder / "provenance.json").is_file() else {}
    if (folder / MANIFEST).is_file():
        digest = read_json(folder / MANIFEST)["sha256"]
    else:
        with (folder / "model.safetensors").open("rb") as weights:
            digest = hashlib.file_digest(weights, "sha256").hexdigest()
    checkpoint = {"path": str(folder), "sha256": digest, "training_seed": trained.get("seed")}
    return {"checkpoint": checkpoint, **provenance(dataset=trained.get("dataset", {}), seed=seed)}
