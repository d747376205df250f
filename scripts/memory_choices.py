r"""Does the memory decide? Pairs of episodes with different cues, on their own bank, none or each other's.

    embodied compare scripts/memory.json --output_dir=runs/memory --results=results
    python scripts/memory_choices.py runs/memory/training/bank-0 runs/memory/training/bank-1 \
        runs/memory/training/bank-2

Cost on one core, beside the recipe's: 2 minutes per checkpoint. A line per task and memory, over all
checkpoints: whose cue is what was chosen, in per cent of the episodes; `own` is success. Expect nearly all to
choose by the other's cue with the memory swapped, except at level 3, where each counts the other's presses.
The result is results/memory_choices.json.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.evaluation.agents import make_agent
from embodied.evaluation.memory_choices import KINDS, choice_rows, count_choices
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import align
from envs.so101 import SO101Env
from envs.tasks import TASK_SETS
from policies.latent_vla.memory import MEMORIES

TASKS = [task for split in ("memory", "memory-held-out") for task in TASK_SETS[split]]
COLUMNS = ["task", "memory", *(f"{kind} cue" for kind in KINDS[:3]), "no choice in time"]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS[:3])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=420_000)
    parser.add_argument("--json", type=Path, default=Path("results/memory_choices.json"))
    args = parser.parse_args()
    counts: dict[str, list[dict[str, int]]] = {}
    for path in args.checkpoints:
        for name in [f"{task} {memory}" for task in args.tasks for memory in MEMORIES]:
            task, memory = name.split()
            agent = make_agent(*load_policy(path, overrides=[f"--memory={memory}"]))
            found = count_choices(
                agent, lambda task=task: SO101Env(task), task, pairs=args.pairs, first_seed=args.seed
            )
            counts.setdefault(name, []).append(found)
    rows = choice_rows(counts)
    print(align([COLUMNS, *rows]))
    result = {"columns": COLUMNS, "rows": rows, "counts": counts, "pairs": args.pairs}
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
