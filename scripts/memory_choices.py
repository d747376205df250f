"""Does the memory decide? Pairs of episodes with different cues, on their own bank, on none, on each other's.

    python scripts/memory_choices.py runs/memory/training/bank-0 runs/memory/training/bank-1 ...

Cost: about 10 minutes per checkpoint on 2 cores. A line per task and memory, over all checkpoints: whose cue
is what was chosen, in per cent of the episodes. Expect nearly all `own` with the memory kept, a third of each
cue with it wiped, and nearly all `other` with it swapped. The result is results/memory_choices.json.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.evaluation.agents import make_agent
from embodied.evaluation.memory_choices import KINDS, count_choices
from embodied.evaluation.policy_loading import load_policy
from embodied.evaluation.summary import align
from envs.so101 import SO101Env
from policies.latent_vla.memory import MEMORIES

TASKS = ("memory-1", "memory-3", "memory-1-held-out", "memory-3-held-out")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--pairs", type=int, default=17)
    parser.add_argument("--seed", type=int, default=420_000)
    parser.add_argument("--json", type=Path, default=Path("results/memory_choices.json"))
    args = parser.parse_args()
    counts: dict[str, dict[str, int]] = {}
    for path in args.checkpoints:
        for memory in MEMORIES:
            agent = make_agent(*load_policy(path, overrides=[f"--memory={memory}"]))
            for task in TASKS:
                found = count_choices(
                    agent, lambda task=task: SO101Env(task), task, pairs=args.pairs, first_seed=args.seed
                )
                before = counts.setdefault(f"{task} {memory}", dict.fromkeys(KINDS, 0))
                counts[f"{task} {memory}"] = {kind: before[kind] + found[kind] for kind in KINDS}
    rows = [
        [*name.split(), *(f"{100 * number / sum(each.values()):.0f} %" for number in each.values())]
        for name, each in counts.items()
    ]
    columns = ["task", "memory", *KINDS]
    print(align([columns, *rows]))
    result = {"columns": columns, "rows": rows, "counts": counts, "checkpoints": len(args.checkpoints)}
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
