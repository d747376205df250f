"""Do imagined latents cause the action? Each plan is replaced at fixed states, with the text held fixed.

    python scripts/latent_causality.py --dataset=runs/x/data/all latent=runs/x/training/latent-0 inert=...

Cost: about a minute per checkpoint on 2 cores. A line per checkpoint and intervention: how much the chunk
changes (root mean square, in units of normalised actions), how much it changes from one draw of the noise to
another at temperature 1, and the ratio of the two. Expect at least 2 for `other_instruction` of a checkpoint
with imagined latents, and 0 for `inert`, whose plan is the same whatever was said. The result is
results/latent_causality.json.
"""

import argparse
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.config import DatasetConfig
from embodied.evaluation.calibration import open_dataset
from embodied.evaluation.interventions import checkpoint_plan_effects
from embodied.evaluation.summary import align

COLUMNS = ["checkpoint", "instead of the plan", "change", "by noise", "ratio"]


def rows_of(name: str, measured: dict) -> list[list[str]]:
    """Lines of the table for one checkpoint."""
    return [
        [
            name,
            intervention.replace("_", " "),
            f"{effect['change']:.3f}",
            f"{measured['noise']:.3f}",
            f"{effect['ratio']:.2f}",
        ]
        for intervention, effect in measured["effects"].items()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--cameras")
    parser.add_argument("--states", type=int, default=256)
    parser.add_argument("--json", type=Path, default=Path("results/latent_causality.json"))
    args = parser.parse_args()
    cache = open_dataset(DatasetConfig(root=args.dataset, cameras=args.cameras))
    paths = dict(text.split("=", 1) for text in args.checkpoints)
    measured = {
        name: checkpoint_plan_effects(Path(path), cache, states=args.states) for name, path in paths.items()
    }
    rows = [row for name, found in measured.items() for row in rows_of(name, found)]
    print(align([COLUMNS, *rows]))
    result = {"columns": COLUMNS, "rows": rows, "measured": measured, "instructions": cache.tasks.tolist()}
    write_result(args.json, result, command=["python", *sys.argv], seed=0)
