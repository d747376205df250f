"""Is the instruction used? Three tasks in one scene, goals of one colour, every instruction in every scene.

    python scripts/language_use.py

Cost: about 30 minutes on 2 cores. Reach, push and pick-place share the arm, the block and the table; with the
goals painted alike, nothing but the text and the goal's height tells which task is meant. One policy is
trained on all three, then each task is run on the same states with its own and with the other two
instructions. Expect another task's instruction to cost each task at least 30 points. The result is
results/language_use.json, the episodes results/language_use.jsonl.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.config import CollectConfig, DatasetConfig, OptimizerConfig, TrainConfig
from embodied.data.collect import collect
from embodied.evaluation.evaluate import evaluate_policy
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import summarise, write_rows
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.report import percent
from embodied.training.loop import train
from envs.metaworld_tasks import INSTRUCTIONS
from policies.latent_vla import LatentVLAConfig

TASKS = ("reach", "push", "pick-place")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/language_use"))
    parser.add_argument("--demonstrations", type=int, default=120)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--episodes", type=int, default=50)
    args = parser.parse_args()
    env = EmbodiedMetaworldEnv(task=",".join(TASKS), cameras="corner,side,gripper", goal_color="0,0.8,0")
    dataset = DatasetConfig(
        root=args.runs / "demonstrations", task_weights={INSTRUCTIONS[t]: 1.0 for t in TASKS}
    )
    if not dataset.root.exists():
        collect(CollectConfig(env=env, dataset=dataset, episodes=args.demonstrations))
    training = args.runs / "training"
    if not (training / "checkpoints" / f"{args.steps:06d}").exists():
        train(
            TrainConfig(
                policy=LatentVLAConfig(preset="tiny"),
                dataset=dataset,
                output_dir=training,
                optimizer=OptimizerConfig(),
                steps=args.steps,
                resume=training.exists(),
            )
        )
    loaded = load_policy(training, None, [])
    rows, columns = [], ["scene", *(f"“{INSTRUCTIONS[task]}”" for task in TASKS), "least cost of another's"]
    table, costs = [], {}
    for task in TASKS:
        rates = {}
        for said in TASKS:
            scene = dataclasses.replace(
                env, task=task, instruction=INSTRUCTIONS[said], features={}, features_map={}
            )
            said_rows = evaluate_policy(*loaded, scene, episodes=args.episodes, seed=200_000)
            rows += [{**row, "arm": f"told {said}"} for row in said_rows]
            rates[said] = summarise(said_rows)["success_rate"]
        costs[task] = min(rates[task] - rates[other] for other in TASKS if other != task)
        table.append([task, *(percent(rates[said]) for said in TASKS), f"{100 * costs[task]:.0f} points"])
        print(table[-1])
    result = {"columns": columns, "rows": table, "costs": costs, "episodes": args.episodes}
    write_result(Path("results/language_use.json"), result, command=["python", *sys.argv], seed=0)
    write_rows(rows, Path("results/language_use.jsonl"))
