"""Does an export end episodes as its checkpoint does? The same environment seeds and noise for both.

    python scripts/export_parity.py --policy.path=runs/x --exported=exported/x --mode=imagine --env.task=mt10

Cost: about 20 minutes for 200 episodes on 2 cores. Expect at least 195 of 200 outcomes (success or failure)
to be identical. The result is results/export_parity.json.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from lerobot.envs.configs import EnvConfig

import embodied.lerobot_plugin  # noqa: F401  (registers our environments)
from embodied.cli import CHOICE_DEFAULTS, write_result
from embodied.config import CheckpointConfig
from embodied.evaluation.agents import make_agent
from embodied.evaluation.evaluate import list_episodes, run_agent
from embodied.evaluation.policy_loading import check_fits, load_policy
from embodied.evaluation.statistics import percentiles_ms
from embodied.export.agent import DeciderAgent
from embodied.flags import parse_flags
from embodied.lerobot_plugin import require_simulated
from embodied.serving.exported_runner import ExportedPolicy


@dataclass(frozen=True, kw_only=True)
class ParityConfig:
    """policy: the checkpoint; exported: its export; episodes: of all tasks together."""

    policy: CheckpointConfig
    exported: Path
    env: EnvConfig
    mode: str = "reactive"
    episodes: int = 200
    seed: int = 100_000
    json: Path = Path("results/export_parity.json")


if __name__ == "__main__":
    config = parse_flags(ParityConfig, sys.argv[1:], choice_defaults=CHOICE_DEFAULTS)
    env = require_simulated(config.env)
    per_task = -(-config.episodes // len(env.tasks))
    listed = sorted(list_episodes(env, per_task, config.seed), key=lambda episode: episode.seed)
    loaded = load_policy(config.policy.folder, "cpu", [f"--mode={config.mode}"])
    check_fits(loaded[0].config, env)
    agents = {"checkpoint": make_agent(*loaded)}
    agents["exported"] = DeciderAgent(ExportedPolicy(config.exported), config.mode)
    ended = {name: run_agent(agent, env, listed[: config.episodes]) for name, agent in agents.items()}
    success = {name: [result.success for result in results] for name, results in ended.items()}
    identical = sum(a == b for a, b in zip(*success.values(), strict=True))
    times = {n: percentiles_ms([s for r in rs for s in r.decision_seconds]) for n, rs in ended.items()}
    print(
        f"{identical} of {config.episodes} outcomes identical; successes",
        {n: sum(s) for n, s in success.items()},
    )
    result = {"identical": identical, "episodes": config.episodes, "mode": config.mode, "success": success}
    result |= {"tasks": [episode.task for episode in listed[: config.episodes]], "latency_ms": times}
    write_result(config.json, result, command=["python", *sys.argv], seed=config.seed)
