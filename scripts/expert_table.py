"""Success of every scripted expert over fresh resets, and the ones below 90 % by name.

    python scripts/expert_table.py

Cost: 2 to 4 minutes on 2 cores. Expect every expert at 90 % or more. The result is written to
results/expert_table.json, which also counts the successes within the default episode of 200 steps.
"""

import argparse
import multiprocessing
import os
import sys
from pathlib import Path
from statistics import median

from embodied.cli import write_result
from embodied.evaluation.statistics import wilson_interval
from envs.metaworld import LONGEST_EPISODE, MetaworldEnv
from envs.metaworld_experts import make_expert
from envs.metaworld_tasks import parse_tasks


def run_task(task: str, seeds: range) -> dict:
    """Run the expert once per seed; returns one row of the table."""
    env, expert, successes = MetaworldEnv(task, max_episode_steps=LONGEST_EPISODE), make_expert(task), []
    for seed in seeds:
        info, steps, over = env.restart(seed=seed), 0, False
        while not over:
            _, terminated, truncated, info = env.advance(expert.act(env.privileged_state()))
            steps, over = steps + 1, terminated or truncated
        successes += [steps] if info["is_success"] else []
    low, high = wilson_interval(len(successes), len(seeds))
    row = {"task": task, "successes": len(successes), "episodes": len(seeds), "wilson_low": low}
    within_200 = sum(steps <= 200 for steps in successes)
    return row | {"wilson_high": high, "median_steps": median(successes or [0]), "within_200": within_200}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="mt50")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("results/expert_table.json"))
    args = parser.parse_args()
    seeds = range(args.episodes)
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        rows = pool.starmap(run_task, [(task, seeds) for task in parse_tasks(args.tasks)], chunksize=1)
    print(f"{'task':26} successes  in 200 steps  95 % interval  median steps")
    for row in rows:
        interval = f"{row['wilson_low']:4.0%} to {row['wilson_high']:4.0%}"
        counts = f"{row['successes']:6}/{row['episodes']}  {row['within_200']:12}"
        print(f"{row['task']:26} {counts}   {interval} {row['median_steps']:13}")
    weak = [row["task"] for row in rows if row["successes"] < 0.9 * row["episodes"]]
    print(f"below 90 %: {', '.join(weak) or 'none'}")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"seeds": list(seeds), "below_90_percent": weak, "rows": rows}
    write_result(args.json, result, command=["python", *sys.argv], seed=None)
