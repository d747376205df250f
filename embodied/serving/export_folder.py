"""The folder of an exported policy: told from a checkpoint, verified, described.

`export.json` holds what the policy asks for and gives, how instructions are spelled, which graph decides in
which mode, what it was compared with and what it was trained on. Needs neither torch nor onnxruntime.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from embodied.errors import UserError
from embodied.manifest import MANIFEST, read_json, verify_files

EXPORT = "export.json"
FORMAT = 2


def is_export(path: Path | None) -> bool:
    """Whether a folder is an exported policy, and no checkpoint."""
    return path is not None and (path / EXPORT).is_file()


def read_description(path: Path) -> dict[str, Any]:
    """The content of `export.json`, once every file of the folder is verified; UserError if it is none."""
    if not (path / MANIFEST).is_file() or not is_export(path):
        raise UserError(f"{path}: is no exported policy: expected a folder that `embodied export` wrote")
    verify_files(path, "export")
    description = read_json(path / EXPORT)
    if description["format"] != FORMAT:
        raise UserError(f"{path}: has format {description['format']}: expected {FORMAT}, export it again")
    return description


def check_flags(
    path: Path, device: str | None, overrides: Sequence[str], *, changeable: Collection[str] = ()
) -> None:
    """Raise UserError naming the first flag that asks of an export what its graphs have fixed.

    device: as in `--device`; overrides: flags of the policy's configuration, such as `--euler_steps=8`;
    changeable: names of those that the caller sees to.
    """
    if device not in (None, "cpu"):
        raise UserError(f"--device={device}: {path} is an exported policy: expected cpu, where it runs")
    for override in overrides:
        name = override.removeprefix("--").partition("=")[0]
        if name not in changeable:
            expected = " or ".join(f"--policy.{other}" for other in ("path", *changeable))
            raise UserError(f"--policy.{name}: {path} is exported with it: expected only {expected}")
