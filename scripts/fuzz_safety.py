"""A million chunks of the worst kind through the safety filter: is every command finite and within limits?

    python scripts/fuzz_safety.py

Cost: some four minutes on one core. Chunks hold smooth motions, noise, steps from end to end, NaN, infinities
and 1e38, are of wrong shapes or types, and come at uneven times, some of them backwards; the robot is stuck,
lags, or measures nonsense. The motor log is checked by itself, see embodied/serving/motor_log.py: expect no
violation. The result is results/fuzz_safety.json.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from embodied.cli import write_result
from embodied.serving.motor_log import violations
from embodied.serving.profiles import PROFILES
from embodied.serving.safety import Rejection, SafetyFilter
from embodied.serving.trials import WORST_CHUNKS, any_step, nonsense

EPISODE = 100
"""Chunks that one started filter gets."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/fuzz_safety.json"))
    args = parser.parse_args()
    draw, counts, flags, wrong = np.random.default_rng(args.seed), Counter(), Counter(), []
    for episode in range(-(-args.chunks // EPISODE)):
        profile = PROFILES[("so101", "aloha")[episode % 2]]
        low, high = np.array(profile.low), np.array(profile.high)
        start = position = draw.uniform(low - 0.02 * (high - low), high + 0.02 * (high - low))
        guard, steps, log = SafetyFilter(profile), [], []
        guard.start(start)
        for kind in draw.choice(list(WORST_CHUNKS), min(EPISODE, args.chunks - episode * EPISODE)):
            chunk = guard.chunk(WORST_CHUNKS[kind](draw, low, high))
            counts["chunks"] += 1
            counts["rejected"] += isinstance(chunk, Rejection)
            for action in [None] if isinstance(chunk, Rejection) else chunk[:3]:
                steps.append(any_step(draw, profile.fps))
                measured = nonsense(draw, position)
                hold = action is None
                command = guard.hold(steps[-1]) if hold else guard.command(action, measured, steps[-1])
                flags.update(command.flags)
                position = command.action
                log.append(position)
        counts["commands"] += len(log)
        wrong += violations(profile, start, steps, np.array(log))
    print(f"{counts['chunks']} chunks, {counts['commands']} commands, {len(wrong)} violations {wrong[:3]}")
    result = {"ok": not wrong, **counts, "violations": len(wrong), "flags": dict(flags)}
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
    sys.exit(bool(wrong))
