"""`embodied imagine`: what a checkpoint expects, decides and is surprised by, in pictures."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lerobot.utils.io_utils import write_video

from embodied.config import ImagineConfig
from embodied.errors import UserError
from embodied.evaluation.agents import ChunkAgent
from embodied.evaluation.calibration import open_dataset, trained_on
from embodied.evaluation.diagnostics.holders import PolicyWorldModel
from embodied.evaluation.diagnostics.model import check_dataset
from embodied.evaluation.evaluate import checkpoint_origin, list_episodes, run_agent
from embodied.evaluation.policy_loading import LoadedPolicy, check_fits, load_policy
from embodied.evaluation.summary import episode_rows
from embodied.imagining.decisions import Decision, Witness, expected_scenes, looks_ahead, surprises
from embodied.imagining.decoding import decoder_for
from embodied.imagining.pictures import moments_film, moments_strip, picture_rows
from embodied.lerobot_plugin import SimulatedEnvConfig, require_simulated
from embodied.manifest import write_json
from embodied.rollout import EpisodeResult
from policies.latent_vla.modeling_latent_vla import LatentVLAPolicy
from world_models.decoder import FrameDecoder

RESULT_FILE, PICTURES = "imagine.json", "imagined"
ENDINGS = {"film": ".mp4", "strip": ".png"}
SLOWEST_FPS = 2


def imagine(config: ImagineConfig) -> dict[str, Any]:
    """Roll a checkpoint out and write what it expected beside what came, for the report's section on it.

    Returns `decoder` (see `decoder_for`), `imagined` (a row per episode, as an evaluation's, and `looks`: a
    list with `step`, `surprise` by source and, in mode `plan`, `values` of the candidates and which was
    `chosen`; `film` and `strip`, files), `mode`, `chunk_steps`, `env` and what `checkpoint_origin` gives.
    In `output_dir` lie `imagine.json`, pictures in `imagined/` and the decoder, for the next run.

    Raises:
        UserError: a checkpoint without a world model, an environment or a data set that does not fit it.
    """
    env = require_simulated(config.env)
    loaded = load_policy(config.policy.folder, config.device, config.policy_overrides)
    policy = _thinking(loaded, config.policy.folder)
    ahead = looks_ahead(policy)
    check_fits(policy.config, env)
    cache = open_dataset(config.dataset or trained_on(config.policy.folder, "to train the decoder on"))
    check_dataset(PolicyWorldModel(policy, *loaded[1:]), cache)
    origin = checkpoint_origin(config.policy.folder, config.seed)
    pictures = config.output_dir / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    decoder, description = decoder_for(
        loaded,
        cache,
        checkpoint=origin["checkpoint"]["sha256"],
        folder=config.output_dir,
        steps=config.decoder_steps,
    )
    watched = _watch(loaded, policy, env, config)
    result = {
        "decoder": description,
        "imagined": [
            _shown(policy, decoder, seen, decisions, ahead=ahead, fps=env.fps, folder=pictures)
            for seen, decisions in watched
        ],
        "policy": policy.config.type,
        "mode": policy.config.mode,
        "chunk_steps": policy.config.chunk_size,
        "env": {"type": env.type, "task": env.task, **json.loads(json.dumps(env.gym_kwargs))},
        **origin,
    }
    write_json(config.output_dir / RESULT_FILE, result)
    print(format_imagined(result))
    return result


def _thinking(loaded: LoadedPolicy, path: Path) -> LatentVLAPolicy:
    """The policy, if there is anything in it to look at."""
    policy = loaded[0]
    if not isinstance(policy, LatentVLAPolicy) or policy.foresight is None:
        raise UserError(
            f"--policy.path={path}: holds a {policy.config.type} with neither a world model nor imagination: "
            "expected a latent_vla trained with --policy.world_model=true"
        )
    return policy


def _watch(
    loaded: LoadedPolicy, policy: LatentVLAPolicy, env: SimulatedEnvConfig, config: ImagineConfig
) -> list[tuple[EpisodeResult, list[Decision]]]:
    """Episodes, one after another, and what was decided in each."""
    witness = Witness(policy)
    watched: list[tuple[EpisodeResult, list[Decision]]] = []
    run_agent(
        ChunkAgent(*loaded, watch=witness),
        env,
        list_episodes(env, config.episodes, config.seed, recorded=config.episodes),
        num_envs=1,
        expert_fns={task: env.expert_fn(task) for task in env.tasks},
        description="episodes",
        finished=lambda result: watched.append((result, witness.take())),
    )
    return watched


def _shown(
    policy: LatentVLAPolicy,
    decoder: FrameDecoder,
    seen: EpisodeResult,
    decisions: Sequence[Decision],
    *,
    ahead: int,
    fps: float,
    folder: Path,
) -> dict[str, Any]:
    """Write an episode's pictures; returns its row."""
    expected = expected_scenes(policy, decisions)
    stride = policy.config.n_action_steps
    steps = [look * stride for look in range(len(decisions))]
    rows = picture_rows(decoder, decisions, expected)
    film = folder / f"{seen.episode.task}_{seen.episode.seed}.mp4"
    write_video(film, moments_film(rows), max(SLOWEST_FPS, round(fps / stride)))
    moments_strip(rows, steps).save(film.with_suffix(".png"))
    looks = [
        {"step": step, "surprise": surprise, **_choice(decision)}
        for step, surprise, decision in zip(
            steps, surprises(decisions, expected, ahead), decisions, strict=True
        )
    ]
    row = episode_rows("policy", [dataclasses.replace(seen, frames=None)])[0]
    places = {kind: f"{PICTURES}/{film.with_suffix(end).name}" for kind, end in ENDINGS.items()}
    return {**row, **places, "looks": looks}


def _choice(decision: Decision) -> dict[str, Any]:
    if decision.values is None:
        return {}
    return {"values": decision.values.tolist(), "chosen": decision.chosen}


def format_imagined(result: dict[str, Any]) -> str:
    """The decoder's error and the mean surprise of every episode, beside their floors."""
    decoder = result["decoder"]
    origin = "read from" if decoder["reused"] else "trained, kept in"
    lines = [
        f"decoder         {origin} {decoder['file']}",
        f"picture error   {decoder['error']:.5f} on held-out frames, mean picture {decoder['floor']:.5f}",
    ]
    for row in result["imagined"]:
        parts = [f"{name} {value:.4f}" for name, value in mean_surprise(row["looks"]).items()]
        outcome = "success" if row["success"] else "failure"
        lines.append(f"{row['task']:<15} seed {row['env_seed']} {outcome}: error of {', '.join(parts)}")
    return "\n".join(lines)


def mean_surprise(looks: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By source, over the looks of which something was expected."""
    found: dict[str, list[float]] = {}
    for look in looks:
        for name, value in look["surprise"].items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}
