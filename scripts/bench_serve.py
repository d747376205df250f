"""Latency of the server over TLS with 16 robots at 10 Hz, two 224x224 pictures each, and bad neighbours.

    python scripts/bench_serve.py

Cost: three minutes on 2 cores, which clients and server share; run it on a machine that does nothing else,
as `load_before` in the result tells. Phases beside nobody and the neighbours take turns. Expect a p99 of at
most 25 ms, under 0.1 % late by a period, and a p99 that a stalled reader moves by less than 20 % and hostile
peers do not double. The result is results/bench_serve.json.
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
from embodied.serving.load import NEIGHBOURS, Credentials, Load, Measured, drive, served
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
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the six phases")
    parser.add_argument("--json", type=Path, default=Path("results/bench_serve.json"))
    args = parser.parse_args()
    load, before = Load(seconds=args.seconds), os.getloadavg()[0]
    phases = {name: Measured() for name in NEIGHBOURS}
    with tempfile.TemporaryDirectory() as folder:
        authority, files = trustme.CA(), Credentials.within(Path(folder))
        authority.cert_pem.write_to_path(files.authority)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
        files.token.write_text(secrets.token_hex(16))
        with served(POLICY, files) as url:
            for name in [*phases, *phases]:
                phases[name].add(asyncio.run(drive(url, POLICY, files, load, beside=name)))
    rows = {name: measured.summary() for name, measured in phases.items()}
    for name, row in rows.items():
        print(f"{name:24}", "   ".join(f"{what} {value:.4g}" for what, value in row.items()))
    moved = {name: row["p99_ms"] / rows["nobody"]["p99_ms"] - 1 for name, row in rows.items()}
    is_fast = rows["nobody"]["p99_ms"] <= 25 and rows["nobody"]["late_share"] < 0.001
    ok = is_fast and moved["a stalled reader"] < 0.2 and moved["hostile peers"] < 1
    print("p99 moved by", {name: f"{100 * share:+.0f} %" for name, share in moved.items()}, "load", before)
    result = {"beside": rows, "p99_moved_by": moved, "load_before": before, **vars(load)}
    write_result(args.json, {"ok": ok, **result}, command=["python", *sys.argv], seed=0)
    sys.exit(not ok)
