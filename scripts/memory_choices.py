"""Does the memory decide? Pairs of episodes with different cues, on their own bank, on none, on each other's.

    embodied collect --env.task=memory-1 --episodes=100 --disturbed_episodes=300 --noise=2 \\
        --dataset.root=data/memory-1
    embodied train --dataset.root=data/memory-1 --policy.memory_tokens=24 --policy.memory_window=36 \\
        --policy.mode=imagine --policy.imagination=inert --policy.imagine_subgoals=true \\
        --policy.imagined_steps=1 --policy.subgoal_loss_weight=0.5 --batch_size=4 --steps=1500 --seed=0 \\
        --output_dir=runs/memory-1-0
    python scripts/memory_choices.py runs/memory-1-0 runs/memory-1-1 runs/memory-1-2

Cost: 3 minutes to collect, a quarter of an hour to train and 3 minutes here per checkpoint, on one core that
computes in bf16. A line per task and memory, over all checkpoints: whose cue is what was chosen, in per cent
of the episodes; `own` is success. Expect nobody to choose by the own cue with the memory wiped, and most who
choose to do so by the other's with it swapped. The result is results/memory_choices.json.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.evaluation.agents import make_agent
from embodied.evaluation.memory_choices import KINDS, count_choices
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.statistics import wilson_interval
from embodied.evaluation.summary import align
from embodied.reporting.formats import interval, percent
from envs.so101 import SO101Env
from policies.latent_vla.memory import MEMORIES

COLUMNS = ["task", "memory", *(f"{kind} cue" for kind in KINDS[:3]), "no choice in time"]


def share(number: int, of: int) -> str:
    """A cell of the table."""
    return f"{percent(number / of)} ({interval(*wilson_interval(number, of))})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["memory-1", "memory-1-held-out"])
    parser.add_argument("--pairs", type=int, default=17)
    parser.add_argument("--seed", type=int, default=420_000)
    parser.add_argument("--json", type=Path, default=Path("results/memory_choices.json"))
    args = parser.parse_args()
    counts: dict[str, list[dict[str, int]]] = {}
    for path in args.checkpoints:
        for task in args.tasks:
            for memory in MEMORIES:
                agent = make_agent(*load_policy(path, overrides=[f"--memory={memory}"]))
                found = count_choices(
                    agent, lambda task=task: SO101Env(task), task, pairs=args.pairs, first_seed=args.seed
                )
                counts.setdefault(f"{task} {memory}", []).append(found)
    rows = [
        [
            *name.split(),
            *(share(sum(one[kind] for one in each), 2 * args.pairs * len(each)) for kind in KINDS),
        ]
        for name, each in counts.items()
    ]
    print(align([COLUMNS, *rows]))
    result = {"columns": COLUMNS, "rows": rows, "counts": counts, "pairs": args.pairs}
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
