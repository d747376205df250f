"""How punctual the control loop of `embodied run` is while inference saturates the processor.

    python scripts/bench_jitter.py --policy.path=runs/so101

Cost: ten minutes, and as many for the control with --idle. A simulated SO-101 is driven at 30 Hz by a policy
in a process of its own (one that holds still, if none is given) in which as many threads as there are cores
compute without pause. Expect 99 of 100 ticks to begin at most 5 ms after they are due, without any privilege;
--realtime asks for one. The result is results/bench_jitter.json.
"""

import argparse
import os
import sys
from pathlib import Path

from embodied.benchmarks.jitter import bench_jitter
from embodied.cli import write_result

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policy.path", dest="policy", type=Path, help="a checkpoint or an export")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--idle", action="store_true", help="nothing but decisions is computed")
    parser.add_argument("--realtime", action="store_true", help="as the flag of `embodied run`")
    parser.add_argument("--port", default="bench_jitter", help="name of the simulated robot")
    parser.add_argument("--json", type=Path, default=Path("results/bench_jitter.json"))
    args = parser.parse_args()
    before = os.getloadavg()[0]
    flags = {"port": args.port, "busy": not args.idle, "realtime": args.realtime}
    result = bench_jitter(seconds=args.seconds, policy=args.policy, **flags)
    for what, times in result["tick_times"].items():
        print(f"{what:8}", "   ".join(f"{name} {value:g}" for name, value in times.items()))
    counts = (f"{name} {result[name]}" for name in ("ticks", "late", "decisions", "scheduling"))
    print(*counts, f"load {before:.1f}", sep="   ")
    write_result(args.json, {**result, "load_before": before}, command=["python", *sys.argv], seed=0)
    sys.exit(not result["ok"])
