"""Send a million frames that no honest peer sends to the decoders of both dialects.

    python scripts/fuzz_wire.py

Cost: a few minutes on one core. Nine tenths are honest frames with one to four mutations, the others
mutations of frames written by hand (object arrays, negative shapes, lengths of 4 GiB, 10,000 levels,
extension types). Expect no exception but a refusal and memory that grows by less than 50 MB. The result is
results/fuzz_wire.json.
"""

import argparse
import sys
import time
from pathlib import Path

from embodied.cli import write_result
from embodied.serving.fuzzing import fuzz
from embodied.serving.specification import Signals, Specification

JOINTS = Signals(names=("a.pos", "b.pos"), units=("deg", "percent"), low=(-90.0, 0.0), high=(90.0, 100.0))
POLICY = Specification(
    checkpoint="ab" * 32,
    robot_type="sim_so101",
    cameras={"front": (12, 16, 3), "wrist": (8, 8, 3)},
    state=JOINTS,
    action=JOINTS,
    fps=30.0,
    chunk_size=16,
    n_action_steps=8,
    modes=("reactive", "imagine"),
    rtc=True,
)
MOST_MB = 50.0

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/fuzz_wire.json"))
    args = parser.parse_args()
    started = time.perf_counter()
    result = fuzz(POLICY, args.frames, args.seed)
    result |= {"ok": result["memory_growth_mb"] < MOST_MB, "seconds": time.perf_counter() - started}
    for name, counts in result["dialects"].items():
        print(f"{name:8} " + "   ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    print(f"memory grew by {result['memory_growth_mb']:.1f} MB over {args.frames} frames, no crash")
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
    sys.exit(not result["ok"])
