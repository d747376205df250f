"""Recording survives kill -9 at 50 random moments.

    python scripts/kill_recorder.py

Cost: about 5 minutes on 2 cores. `embodied run --record` drives a simulated arm in episodes of a second and
is killed in the middle of one, while one is written, or while one is committed; all runs add to one data set.
Each time stock LeRobot opens it and reads every frame. Expect 50 of 50: every episode that a run had said was
written is there with all its frames, those of before are unchanged, and the next run goes on. The result is
results/kill_recorder.json.
"""

import argparse
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from embodied.chaos.recorder import Recording, finish, moments, try_kill
from embodied.chaos.stage import Stage, null_policy
from embodied.cli import write_result
from embodied.robots.devices import SimSO101Config

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("results/kill_recorder.json"))
    args = parser.parse_args()
    robot, trials = SimSO101Config(width=32, height=24), []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        recording = Recording(root=folder / "data")
        with closing(Stage(robot, null_policy(robot), folder)) as stage:
            for number, moment in enumerate(tqdm(moments(args.kills, args.seed), unit="kill")):
                trials.append(try_kill(stage, recording, moment, folder / str(number)))
                tqdm.write(str(trials[-1]))
            last = finish(stage, recording, folder / "last")
    survived = sum(not trial["problems"] for trial in trials)
    result = {
        "ok": survived == args.kills and not last["problems"],
        "kills": args.kills,
        "survived": survived,
        "while_writing": sum(bool(trial["left"]) for trial in trials),
        "episodes": len(recording.lengths),
        "frames": sum(recording.lengths),
        "last": last,
        "trials": trials,
    }
    write_result(args.json, result, command=["python", *sys.argv], seed=args.seed)
    print(f"{survived} of {args.kills} survive, {result['while_writing']} of them killed while writing")
    sys.exit(not result["ok"])
