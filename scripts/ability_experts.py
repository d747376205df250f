"""Is each ability necessary? The scripted expert with and without the one piece of information in question.

    python scripts/ability_experts.py [--tasks memory memory-held-out --episodes=50]

Cost: about 40 minutes on 2 cores for all abilities, more than half of it for planning; nothing is rendered.
Expect the expert at 95 % or more on every level, and 40 points less when it has to guess what the task is
about; beside them random targets and an arm that stays. `outcomes` holds a 1 for every success, in the order
of the seeds. The result is results/ability_experts.json.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.evaluation.necessity import necessity
from embodied.evaluation.summary import align
from envs.tasks import TASK_SETS

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASK_SETS, default=["abilities", "abilities-held-out"])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=400_000)
    parser.add_argument("--json", type=Path, default=Path("results/ability_experts.json"))
    args = parser.parse_args()
    seeds = list(range(args.seed, args.seed + args.episodes))
    result = necessity([task for name in args.tasks for task in TASK_SETS[name]], seeds)
    print(align([result["columns"], *result["rows"]]))
    write_result(args.json, {**result, "seeds": seeds}, command=["python", *sys.argv], seed=None)
