"""Success of every scripted expert over fresh resets, and the ones below 90 % by name.

    python scripts/expert_table.py [--env=aloha --episodes=100 --json=results/expert_table_aloha.json]

Cost: 2 to 4 minutes each on 2 cores. Expect 90 % or more everywhere. `within 200` counts quick successes.
"""

import argparse
import multiprocessing
import sys
from functools import partial
from pathlib import Path
from statistics import median

from embodied.cli import write_result
from embodied.evaluation.statistics import wilson_interval
from envs import aloha, aloha_experts, metaworld, metaworld_experts, pusht, pusht_expert, so101, so101_expert
from envs.metaworld_tasks import MT50

LONG_METAWORLD = partial(metaworld.MetaworldEnv, max_episode_steps=metaworld.LONGEST_EPISODE)
SIMULATORS = {
    "metaworld": (LONG_METAWORLD, metaworld_experts.make_expert, MT50),
    "aloha": (aloha.AlohaEnv, aloha_experts.make_expert, aloha.TASKS),
    "pusht": (pusht.PushTEnv, pusht_expert.make_expert, pusht.TASKS),
    "so101": (so101.SO101Env, so101_expert.make_expert, ("reach-cube",)),
}
ROW = "{task:25}{successes:7}/{episodes} {wilson_low:9.0%}-{wilson_high:4.0%} {median_steps:9} {within_200:9}"


def run_task(simulator: str, task: str, seeds: range) -> dict:
    """Run the expert once per seed; returns one row of the table."""
    make_env, make_expert, _ = SIMULATORS[simulator]
    env, expert, successes = make_env(task), make_expert(task), []
    for seed in seeds:
        expert.reset()
        info, steps, over = env.restart(seed=seed), 0, False
        while not over:
            _, terminated, truncated, info = env.advance(expert.act(env.privileged_state()))
            steps, over = steps + 1, terminated or truncated
        successes += [steps] if info["is_success"] else []
    bounds = zip(("wilson_low", "wilson_high"), wilson_interval(len(successes), len(seeds)), strict=True)
    row: dict = {"task": task, "successes": len(successes), "episodes": len(seeds), **dict(bounds)}
    return row | {"median_steps": median(successes or [0]), "within_200": sum(n <= 200 for n in successes)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", choices=SIMULATORS, default="metaworld")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/expert_table.json"))
    args = parser.parse_args()
    seeds, tasks = range(args.seed, args.seed + args.episodes), SIMULATORS[args.env][2]
    with multiprocessing.get_context("spawn").Pool() as pool:
        rows = pool.starmap(run_task, [(args.env, task, seeds) for task in tasks], chunksize=1)
    print("task                       successes  95 % interval    steps  within 200")
    weak = [row["task"] for row in rows if row["successes"] < 0.9 * row["episodes"]]
    print(*(ROW.format(**row) for row in rows), f"below 90 %: {weak}", sep="\n")
    result = {"seeds": list(seeds), "below_90_percent": weak, "rows": rows}
    write_result(args.json, result, command=["python", *sys.argv], seed=None)
