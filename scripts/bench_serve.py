"""Latency of the server over TLS with 16 robots at 10 Hz, two 224x224 pictures each, and bad neighbours.

    python scripts/bench_serve.py
    python scripts/bench_serve.py --policy.path=runs/so101

Cost: five minutes on 2 cores, which robots, neighbours and server share; run it on a machine that does
nothing else, as `load_before` in the result tells. Expect a p99 of at most 25 ms, under 0.1 % late by a
period, and a p99 that a stalled reader moves by less than 20 % and hostile peers do not double. The result is
results/bench_serve.json. With a policy, which really decides: the largest number of robots that is held with
under 0.1 % late; about 15 minutes, results/bench_serve_policy.json.
"""

import argparse
import os
import secrets
import sys
import tempfile
from pathlib import Path

import trustme

from embodied.benchmarks.serving import beside_neighbours, clients_held
from embodied.cli import write_result
from embodied.serving.inference import Target
from embodied.serving.load import Credentials, Load, served
from embodied.serving.runners import find_specification, find_target
from embodied.serving.specification import Signals, Specification, to_plain

JOINTS = Signals(names=tuple("abcdef"), units=("deg",) * 6, low=(-90.0,) * 6, high=(90.0,) * 6)
SIZES = dict.fromkeys(("front", "wrist"), (224, 224, 3))
ARM = {"robot_type": "sim_so101", "cameras": SIZES, "state": JOINTS, "action": JOINTS, "fps": 30.0}
STILL = Specification(**ARM, chunk_size=50, modes=("reactive",))
HOLDING = "embodied.serving.runners:holding_still_as"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policy.path", dest="path", type=Path, help="a checkpoint or an export")
    parser.add_argument("--hz", type=float, default=10.0, help="how often each robot asks")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--requests", type=int, default=2000, help="at least, in each phase with a policy")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    before, load = os.getloadavg()[0], Load(hz=args.hz, seconds=args.seconds)
    target = Target(function=HOLDING, arguments={"specification": to_plain(STILL)})
    if args.path is not None:
        target = find_target(args.path, null=False, device=None, overrides=[])
    with tempfile.TemporaryDirectory() as folder:
        authority, files = trustme.CA(), Credentials.within(Path(folder))
        authority.cert_pem.write_to_path(files.authority)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
        files.token.write_text(secrets.token_hex(16))
        with served(target, files) as (url, _):
            if args.path is None:
                result = beside_neighbours(url, STILL, files, load)
            else:
                result = clients_held(url, find_specification(args.path), files, load, args.requests)
    print({name: value for name, value in result.items() if not isinstance(value, dict)}, "load", before)
    path = args.json or Path("results", f"bench_serve{'_policy' if args.path else ''}.json")
    write_result(path, {**result, "load_before": before}, command=["python", *sys.argv], seed=0)
    sys.exit(not result["ok"])
