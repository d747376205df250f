"""The quickstart over three training seeds: success per task against the random and no-op floors.

    python scripts/quickstart_seeds.py

Cost: about 15 minutes per seed on 2 cores. Expect a mean success of 85 % or more and no task under 70 %.
Every seed draws its own demonstrations, initial weights and batches; all are evaluated on the same 60
environment seeds per task, which no demonstration uses. Seeds already done are read, so an interrupted run
goes on. The results are results/quickstart_seed_N.json, the episodes results/quickstart_seed_N.jsonl.
"""

import argparse
import shutil
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.config import QuickstartConfig
from embodied.quickstart import quickstart

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart_seeds"))
    args = parser.parse_args()
    rates = []
    for seed in args.seeds:
        config = QuickstartConfig(output_dir=args.runs / str(seed), seed=seed, eval_episodes=180)
        path = Path(f"results/quickstart_seed_{seed}.json")
        result = quickstart(config)
        write_result(path, result, command=["python", *sys.argv], seed=seed)
        shutil.copy(config.output_dir / "evaluation" / "episodes.jsonl", path.with_suffix(".jsonl"))
        rates.append(result["success_rate"])
        print(f"seed {seed}: {rates[-1]:.1%}; mean of {len(rates)}: {sum(rates) / len(rates):.1%}")
