"""An hour of `serve` and `run` with clients that come, go and misbehave: does anything grow?

    python scripts/soak.py --policy.path=runs/so101

Cost: an hour (--minutes). Every ten seconds the memory, descriptors and threads of the server, of inference
and of a control loop that drives a simulated SO-101 over TLS. Expect, after the first ten minutes, less than
1 MB per hour by a straight line, and descriptors and threads that stay. An interrupt writes what has been
measured. The result is results/soak.json.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import trustme

from embodied.benchmarks.soak import soak
from embodied.cli import write_result
from embodied.serving.load import Credentials

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policy.path", dest="policy", type=Path, help="a checkpoint or an export")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--port", default="soak", help="name of the simulated robot")
    parser.add_argument("--json", type=Path, default=Path("results/soak.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        authority, files = trustme.CA(), Credentials.within(Path(folder))
        authority.cert_pem.write_to_path(files.authority)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(files.certificate)
        files.token.write_text(secrets.token_hex(16))
        sizes = {"seconds": 60 * args.minutes, "every": args.every}
        result = soak(files, policy=args.policy, port=args.port, **sizes)
    for name, lines in result["processes"].items():
        for what, line in lines.items():
            per_hour = f"{line['per_hour']:+.2f} an hour ({line['low']:+.2f} to {line['high']:+.2f})"
            print(f"{name:13} {what:12} {line['first']:8.1f} to {line['last']:8.1f}   {per_hour}")
    write_result(args.json, result, command=["python", *sys.argv], seed=0)
    sys.exit(not result["ok"])
