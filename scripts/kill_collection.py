"""Collection survives kill -9 at 20 random moments.

    python scripts/kill_collection.py

Cost: about 10 minutes on 2 cores. A collection of 6 short episodes is killed while it
records, while it writes and while it commits; each time, what is left is opened with stock LeRobot and
compared with an undisturbed run, then the same command completes it. Expect 20 of 20: every episode that was
on the disk is there, no process is left, and the completed files are the same, bit for bit. The result is
results/kill_collection.json.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from embodied.cli import write_result
from embodied.data.dataset import fingerprint
from embodied.data.kill_trials import draw_moments, passed, run, try_moment

EPISODES = 6
FLAGS = [
    "--env.task=reach",
    "--env.width=32",
    "--env.height=32",
    "--env.episode_length=100",
    f"--episodes={EPISODES}",
    "--workers=2",
]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "undisturbed")
        pace = run(FLAGS, reference)
        for number, moment in enumerate(draw_moments(3 * args.trials, EPISODES, pace, args.seed)):
            trial = try_moment(moment, FLAGS, Path(folder, str(number)), reference)
            print(trial, flush=True)
            trials += [trial] if trial["killed"] else []  # others had ended by then
            if len(trials) == args.trials:
                break
        digest = fingerprint(reference)
    survived = sum(map(passed, trials))
    print(f"{survived} of {len(trials)} survive")
    result = {"survived": survived, "trials": trials, "flags": FLAGS, "fingerprint": digest}
    write_result(Path("results/kill_collection.json"), result, command=["python", *sys.argv], seed=args.seed)
    sys.exit(survived < len(trials))
