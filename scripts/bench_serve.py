"""Latency of the server over TLS with 16 robots at 10 Hz, two 224x224 pictures each, and one that stalls.

    python scripts/bench_serve.py

Cost: two minutes on 2 cores, which clients and server share; run it on a machine that does nothing else, as
`load_before` in the result tells. Phases without and with the stalled reader take turns. Expect a p99 of at
most 25 ms, under 0.1 % late by a period, and a p99 that the stalled reader moves by less than 20 %. The
result is results/bench_serve.json.
"""

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path

import trustme

from embodied.cli import write_result
from embodied.serving.load import Credentials, Load, Measured, drive, served
from embodied.serving.specification import Signals, Specification

JOINTS = Signals(names=tuple("abcdef"), units=("deg",) * 6, low=(-90.0,) * 6, high=(90.0,) * 6)
POLICY = Specification(
    robot_type="sim_so101",
    cameras=dict.fromkeys(("front", "wrist"), (224, 224, 3)),
    state=JOINTS,
    action=JOINTS,
    fps=30.0,
    chunk_size=50,
    modes=("reactive",),
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the four phases")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--json", type=Path, default=Path("results/bench_serve.json"))
    args = parser.parse_args()
    load, before = Load(clients=args.clients, seconds=args.seconds), os.getloadavg()[0]
    phases = {"alone": Measured(), "beside a stalled reader": Measured()}
    with tempfile.TemporaryDirectory() as folder:
        authority, files = trustme.CA(), Credentials.within(Path(folder))
        authority.cert_pem.write_to_path(files.authority)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
        files.token.write_text(secrets.token_hex(16))
        with served(POLICY, files) as url:
            for name in [*phases, *phases]:
                phases[name].add(asyncio.run(drive(url, POLICY, files, load, stalled=name != "alone")))
    rows = {name: measured.summary() for name, measured in phases.items()}
    for name, row in rows.items():
        print(f"{name:24}", "   ".join(f"{what} {value:.4g}" for what, value in row.items()))
    moved = rows["beside a stalled reader"]["p99_ms"] / rows["alone"]["p99_ms"] - 1
    ok = rows["alone"]["p99_ms"] <= 25 and rows["alone"]["late_share"] < 0.001 and moved < 0.2
    print(f"the stalled reader moves the p99 by {100 * moved:+.0f} %; load before {before:.2f}")
    result = {"ok": ok, "rows": rows, "p99_moved_by": moved, "load_before": before, **vars(load)}
    write_result(args.json, result, command=["python", *sys.argv], seed=0)
    sys.exit(not ok)
