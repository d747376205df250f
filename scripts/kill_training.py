"""Kill -9 trainings at random moments, resume them, and compare every bit with a run that was left alone.

    python scripts/kill_training.py

Cost: 5 to 10 minutes on 2 cores. Each of 20 runs is killed at random, half of the times while a checkpoint
is written, linked or deleted, started again with --resume=true (as before, if its settings were not written
yet), and killed again half of the times, until it ends. All of its last checkpoint, the logged values and the
list of kept checkpoints must be equal: expect 20 of 20. The result is results/kill_training.json.
"""

import argparse
import dataclasses
import random
import sys
import tempfile
import time
from pathlib import Path

from embodied.cli import write_result
from embodied.training.trials import demonstrations, outcome, train_through_kills, train_until

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/kill_training.json"))
    args = parser.parse_args()
    draw = random.Random(args.seed)
    cases: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        data, alone = demonstrations(Path(folder, "data")), Path(folder, "alone")
        train_until(Path(folder, "first"), data)  # decodes the pictures
        started = time.perf_counter()
        train_until(alone, data)
        seconds = time.perf_counter() - started
        while len(cases) < args.runs:
            run = Path(tempfile.mkdtemp(dir=folder), "run")
            kills = train_through_kills(run, data, draw, seconds)
            if kills:  # otherwise it ended before the first one came
                case = {
                    "identical": outcome(run) == outcome(alone),
                    "kills": list(map(dataclasses.asdict, kills)),
                }
                cases.append(case | {"while_writing": sum(kill.while_writing for kill in kills)})
                print(f"run {len(cases)}: {len(kills)} kills, identical: {case['identical']}", flush=True)
    identical = sum(case["identical"] for case in cases)
    result = {
        "ok": identical == args.runs,
        "runs": args.runs,
        "identical": identical,
        "kills": sum(len(case["kills"]) for case in cases),
        "kills_while_writing": sum(case["while_writing"] for case in cases),
        "seconds_alone": seconds,
        "cases": cases,
    }
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
    print(f"{identical} of {args.runs} identical, {result['kills']} kills")
    sys.exit(not result["ok"])
