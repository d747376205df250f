"""What `embodied serve` can serve, by name, made in the process of inference."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embodied.serving.export_folder import check_flags, is_export, read_description
from embodied.serving.inference import Target, spare_cores
from embodied.serving.runner import NullRunner, PolicyRunner
from embodied.serving.specification import Specification, from_checkpoint, from_plain

RUNNERS = {
    "checkpoint": "embodied.serving.checkpoint_runner:CheckpointRunner",
    "export": "embodied.serving.exported_runner:ExportedRunner",
}
"""Imported only when chosen: an exported policy needs no torch."""


def find_target(path: Path, *, null: bool, device: str | None, overrides: Sequence[str]) -> Target:
    """How to make the policy that `path` means, a checkpoint or an export.

    null: one of the same specification that holds still. overrides: flags of a checkpoint's configuration;
    UserError for one, or a device, that an export cannot change.
    """
    kind = "export" if is_export(path) else "checkpoint"
    if kind == "export":
        check_flags(path, device, overrides)
    if null:
        return Target(function=f"{__name__}:holding_still", arguments={"path": str(path)})
    options: dict[str, Any] = {"device": device, "overrides": list(overrides)}
    if kind == "export":
        options = {"threads": spare_cores()}
    return Target(
        function=f"{__name__}:stored", arguments={"kind": kind, "path": str(path), "options": options}
    )


def find_specification(path: Path) -> Specification:
    """What the policy that `path` means asks for and gives."""
    if is_export(path):
        return from_plain(read_description(path)["specification"])
    return from_checkpoint(path)


def stored(kind: str, path: str, options: dict[str, Any]) -> PolicyRunner:
    """The policy of a folder."""
    module, name = RUNNERS[kind].split(":")
    return getattr(importlib.import_module(module), name)(Path(path), **options)


def holding_still(path: str) -> NullRunner:
    """A policy that holds still, of a stored one's specification."""
    return NullRunner(find_specification(Path(path)))


def holding_still_as(specification: dict[str, Any]) -> NullRunner:
    """A policy that holds still, of a specification as a plain map."""
    return NullRunner(from_plain(specification))
