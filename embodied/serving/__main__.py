"""`python -m embodied.serving`: `embodied serve` for a machine that has an exported policy and little else.

Needs numpy, onnxruntime, websockets, msgpack and prometheus-client; no torch, no LeRobot. Takes the flags of
`embodied serve` that do not belong to checkpoints.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from embodied.errors import UserError
from embodied.serving.config import ServeConfig, ServedPolicy
from embodied.serving.export_folder import is_export
from embodied.serving.serve import serve

OF_CHECKPOINTS = ("policy", "policy_overrides", "device", "json")
SWITCH = {"true": True, "false": False}


class _Parser(argparse.ArgumentParser):
    """One line about a mistake instead of pages of usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _switch(text: str) -> bool:
    if text not in SWITCH:
        raise argparse.ArgumentTypeError(f"{text}: expected true or false")
    return SWITCH[text]


def parse(args: Sequence[str]) -> ServeConfig:
    """The configuration that flags ask for; UserError for a wrong one."""
    parser = _Parser(prog="python -m embodied.serving", description=ServeConfig.__doc__, allow_abbrev=False)
    parser.add_argument("--policy.path", dest="path", type=Path, required=True, help="an exported policy")
    hints = get_type_hints(ServeConfig)
    for item in fields(ServeConfig):
        if item.name in OF_CHECKPOINTS:
            continue
        assert item.default is not MISSING
        kind = next(iter(get_args(hints[item.name])), hints[item.name])  # X of `X | None`
        how: dict[str, Any] = (
            {"type": _switch, "nargs": "?", "const": True} if kind is bool else {"type": kind}
        )
        parser.add_argument(f"--{item.name}", default=item.default, help=f"default {item.default}", **how)
    given = vars(parser.parse_args(args))
    path = given.pop("path")
    if not is_export(path):
        expected = "a folder that `embodied export` wrote; `embodied serve` serves checkpoints as well"
        raise UserError(f"--policy.path={path}: expected {expected}")
    return ServeConfig(policy=ServedPolicy(path=path), **given)


def main(args: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit code: 2, and one line, for bad input."""
    try:
        serve(parse(sys.argv[1:] if args is None else args))
    except UserError as error:
        print(f"embodied: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
