"""Success of a policy on the SO-101's task when its decisions come late, by how chunks are merged.

    python scripts/rtc_delay.py --policy.path=runs/so101

Cost: 15 minutes on 2 cores; interrupted, it goes on from results/rtc_delay.jsonl. 400 scenes for real-time
chunking at every delay, --others of them for synchronous execution, ensembling, the paper's guidance and the
control without continuation. Expect no broken limit, and success at most 5 points below that without delay,
with 95 % certainty. The result is results/rtc_delay.json.
"""

import argparse
import itertools
import sys
from pathlib import Path

from embodied.benchmarks.rtc_delay import ARMS, CONDITIONS, FIRST_SEED, print_table, run_episodes, summarise
from embodied.cli import write_result
from embodied.evaluation.row_log import RowLog
from embodied.training.checkpoint import load_checkpoint_folder

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policy.path", dest="path", type=Path, required=True, help="a checkpoint or a run")
    parser.add_argument("--episodes", type=int, default=400, help="of real-time chunking, per delay")
    parser.add_argument("--others", type=int, default=400, help="of every other arm, per delay")
    parser.add_argument("--arms", default=",".join(ARMS), help="comma list")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="comma list")
    parser.add_argument("--max_steps", type=int, default=150, help="control steps of an episode")
    parser.add_argument("--temperature", type=float, default=0.0, help="above 0 chunks differ by chance")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rows", type=Path, default=Path("results/rtc_delay.jsonl"))
    parser.add_argument("--json", type=Path, default=Path("results/rtc_delay.json"))
    args = parser.parse_args()
    chosen = itertools.product(args.arms.split(","), args.conditions.split(","))
    plan = {(arm, when): args.episodes if arm == "rtc" else args.others for arm, when in chosen}
    if unknown := [pair for pair in plan if pair[0] not in ARMS or pair[1] not in CONDITIONS]:
        parser.error(f"{unknown[0]}: expected of {', '.join(ARMS)} and of {', '.join(CONDITIONS)}")
    rows = RowLog(args.rows)
    folder = load_checkpoint_folder(args.path)
    stage = {"max_steps": args.max_steps, "temperature": args.temperature}
    run_episodes(folder, rows, plan, workers=args.workers, **stage)
    summary = summarise(rows.rows)
    print_table(summary)
    origin = {"checkpoint": str(args.path), "rows": str(args.rows)}
    write_result(args.json, {**summary, **origin}, command=["python", *sys.argv], seed=FIRST_SEED)
    sys.exit(not summary["ok"])
