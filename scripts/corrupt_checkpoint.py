"""Damage a checkpoint in random ways, one at a time: is every one refused, by every loader, the file named?

    python scripts/corrupt_checkpoint.py

Cost: a minute on 2 cores. Half of 200 cases are one flipped bit, a quarter truncations, the rest deleted and
added files, in any file, the manifest included. Read by load_checkpoint_folder, by the loader of `embodied
evaluate`, and by `embodied train --resume=true`: expect 200 of 200 for each, and no refusal without damage.
The result is results/corrupt_checkpoint.json.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from embodied.cli import write_result
from embodied.config import TrainConfig
from embodied.flags import parse_flags
from embodied.training.checkpoint import load_checkpoint_folder
from embodied.training.loop import train
from embodied.training.trials import damaged, demonstrations, flags, loaders, refused

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/corrupt_checkpoint.json"))
    args = parser.parse_args()
    draw, kinds, files, refusals = random.Random(args.seed), Counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        data, run = demonstrations(Path(temporary, "data")), Path(temporary, "run")
        folder = Path(train(parse_flags(TrainConfig, flags(data, run)))["checkpoint"])
        load = loaders(run, data)
        for _ in range(args.cases):
            with damaged(folder, draw) as (kind, path):
                kinds[kind] += 1
                files[path.relative_to(folder).as_posix()] += 1
                refusals.update(name for name in load if refused(load[name], path))
        load_checkpoint_folder(run)
        load["evaluate"]()
        load["resume"]()
    for name in load:
        print(f"{name:9} {refusals[name]} of {args.cases} refused, the file named")
    result = {"ok": all(refusals[name] == args.cases for name in load), "cases": args.cases}
    result |= {"refused": {name: refusals[name] for name in load}, "kinds": kinds, "files": files}
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
    sys.exit(not result["ok"])
