"""Several LeRobotDatasets as one, by LeRobot's own tool, whole or not at all; marks of episodes stay."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from lerobot.datasets.aggregate import aggregate_datasets

from embodied.data.commit import flush
from embodied.data.dataset import first_line, open_metadata
from embodied.errors import UserError


def merge_datasets(parts: Mapping[str, Path], root: Path) -> None:
    """Write the data sets `parts`, folders by name, one after the other into the new folder `root`.

    Raises UserError if one is missing or damaged, or if their features or rates differ.
    """
    for part in parts.values():
        open_metadata(part)
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        aggregate_datasets(
            [f"local/{name}" for name in parts],
            f"local/{root.name}",
            roots=list(parts.values()),
            aggr_root=partial,
        )
    except ValueError as error:
        names = ", ".join(map(str, parts.values()))
        raise UserError(
            f"{names}: expected data sets of equal features and rate: {first_line(error)}"
        ) from error
    for path in partial.rglob("*"):
        flush(path)
    partial.rename(root)
    flush(root.parent)


def is_merged(root: Path) -> bool:
    """Whether `merge_datasets` has written `root`."""
    return (root / "meta" / "info.json").is_file()
