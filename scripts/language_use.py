"""Is the instruction used? Three tasks in one scene, goals of one colour, every instruction in every scene.

    python scripts/language_use.py

Cost: about 25 minutes on 2 cores. Reach, push and pick-place share the arm, the block and the table; with the
goals painted alike, only the text and the goal's height tell which task is meant. One policy is trained on
all three, then each task is run on the same states with every instruction. Whoever places the block at the
goal has reached it and brought the block there; any other instruction should cost at least 30 points: expect
75 or more. The result is results/language_use.json, the episodes results/language_use.jsonl. Demonstrations
and training that are done already are kept.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.config import CollectConfig, DatasetConfig, TrainConfig
from embodied.data.collect import complete_collection
from embodied.evaluation.interventions import least_cost, swap_instructions
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import write_rows
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.reporting.formats import percent
from embodied.training.loop import train
from envs.metaworld_tasks import INSTRUCTIONS
from policies.latent_vla import LatentVLAConfig

TOLD = {task: INSTRUCTIONS[task] for task in ("reach", "push", "pick-place")}
INCLUDING = {"reach": ["pick-place"], "push": ["pick-place"], "pick-place": []}
EVALUATION_SEED = 200_000

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/language_use"))
    parser.add_argument("--demonstrations", type=int, default=180)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=50)
    args = parser.parse_args()
    env = EmbodiedMetaworldEnv(task=",".join(TOLD), cameras="corner,side,gripper", goal_color="0,0.8,0")
    dataset = DatasetConfig(root=args.runs / "demonstrations", task_weights=dict.fromkeys(TOLD.values(), 1.0))
    training = args.runs / "training"
    count = args.demonstrations // 3
    pushed = {"disturbed_episodes": args.demonstrations - count, "noise": 0.8}
    if not (training / "checkpoints" / f"{args.steps:06d}").exists():
        complete_collection(CollectConfig(env=env, dataset=dataset, episodes=count, **pushed))
        policy, resume = LatentVLAConfig(preset="tiny"), training.exists()
        train(
            TrainConfig(policy=policy, dataset=dataset, output_dir=training, steps=args.steps, resume=resume)
        )
    rates, rows = swap_instructions(
        load_policy(training, None, []), env, TOLD, episodes=args.episodes, seed=EVALUATION_SEED
    )
    costs = {task: least_cost(rates[task], task, INCLUDING[task]) for task in TOLD}
    columns = ["scene", *(f"told “{text}”" for text in TOLD.values()), "asking for something else costs"]
    table = [[task, *map(percent, rates[task].values()), f"{100 * costs[task]:.0f} points"] for task in TOLD]
    result = {"columns": columns, "rows": table, "costs": costs, "episodes": args.episodes}
    write_result(Path("results/language_use.json"), result, command=["python", *sys.argv], seed=0)
    write_rows(rows, Path("results/language_use.jsonl"))
    print(*table, sep="\n")
