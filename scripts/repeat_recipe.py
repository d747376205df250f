"""Does a recipe give the same again? Runs part of it twice, from the demonstrations on, in fresh folders.

    python scripts/repeat_recipe.py scripts/guidance.json --arms guided --seeds 0

Cost: twice that of the part. Expect the same weights, and of every
episode the same row but for its times. An interrupted run goes on. The result is results/repeat_<name>.json.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from embodied.cli import write_result
from embodied.compare import compare
from embodied.config import CompareConfig

TIMES = "decision_ms"


def part_of(declaration: dict, arms: list[str], seeds: list[int]) -> dict:
    """What of a recipe makes these arms with these training seeds."""
    chosen = {name: declaration["arms"][name] for name in arms}
    used = {arm["checkpoint"] for arm in chosen.values()}
    training = {name: entry for name, entry in declaration["training"].items() if name in used}
    changes = {"arms": chosen, "training": training, "training_seeds": seeds, "comparisons": []}
    return declaration | changes


def outcome(folder: Path, name: str) -> tuple[list, list[str]]:
    """Rows of all episodes without times, in order, and the digests of all weights."""
    rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key != TIMES} for row in rows]
    weights = sorted(folder.glob("training/*/checkpoints/0*/**/model.safetensors"))
    return kept, [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--arms", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    recipe = json.loads(args.recipe.read_text())
    if unknown := set(args.arms) - set(recipe["arms"]):
        parser.error(f"--arms: {', '.join(unknown)}: expected some of {', '.join(recipe['arms'])}")
    declaration = part_of(recipe, args.arms, args.seeds)
    name, runs = declaration["name"], Path("runs/repeat") / args.recipe.stem
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / "declaration.json"
    path.write_text(json.dumps(declaration))
    for run in ("first", "second"):
        compare(CompareConfig(declaration=path, output_dir=runs / run))
    (rows, weights), (again, weights_again) = (outcome(runs / run, name) for run in ("first", "second"))
    result = {"episodes": len(rows), "same_rows": rows == again}
    result |= {"weight_files": len(weights), "same_weights": weights == weights_again}
    print(result)
    write_result(Path(f"results/repeat_{name}.json"), result, command=["python", *sys.argv], seed=None)
