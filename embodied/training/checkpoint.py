"""Checkpoint folders: written whole or not at all, verified when read, found by several names.

A run keeps `<output_dir>/checkpoints/<step>/` and the symbolic links `last` and `best`. A folder appears
whole, with its manifest (see `embodied.manifest`), and only then the link moves: a crash at any moment leaves
the previous state in place.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from embodied.data.commit import flush
from embodied.errors import DISK_FULL, UserError
from embodied.manifest import (
    MANIFEST,
    TEMPORARY_PREFIX,
    read_json,
    verify_files,
    whole_folder,
)

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
LAST = "last"
BEST = "best"
EVALUATION_CARD = "evaluation_card.json"
SPECIFICATION = "specification.json"
PROVENANCE = "provenance.json"
TRAINING_STATE = "training_state"
OURS = (EVALUATION_CARD, SPECIFICATION, PROVENANCE, TRAINING_STATE)
"""What only our own trainer writes into a checkpoint: with any of these, there was a manifest as well."""


def verify_manifest(folder: Path) -> bool:
    """Check every file of a checkpoint against its manifest, and that there is no other file.

    Returns False, after one warning, if the folder has no manifest (LeRobot's own trainer writes none).
    Raises UserError naming the first file that is missing, truncated, altered or not listed, the manifest
    included.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        if any((folder / name).exists() for name in OURS):
            raise UserError(f"{manifest}: is missing: the checkpoint is incomplete")
        logger.warning("%s: no %s, so its files cannot be verified", folder, MANIFEST)
        return False
    verify_files(folder, "checkpoint")
    return True


# --- finding --------------------------------------------------------------------------------------


def saved_checkpoints(output_dir: Path) -> list[Path]:
    """A run's complete checkpoint folders, oldest first."""
    folders = (output_dir / CHECKPOINTS).glob("[0-9]*")
    return sorted((folder for folder in folders if folder.is_dir()), key=lambda folder: int(folder.name))


def last_checkpoint(output_dir: Path) -> Path | None:
    """The folder that the link `last` names, or the newest one if a crash came before the first link."""
    pointer = output_dir / CHECKPOINTS / LAST
    if pointer.is_dir():
        return _linked(pointer)
    saved = saved_checkpoints(output_dir)
    return saved[-1] if saved else None


def _linked(folder: Path) -> Path:
    """What a link to a sibling names, written as relative or absolute as the link itself."""
    return folder.parent / folder.resolve().name if folder.is_symlink() else folder


def resolve_checkpoint(path: Path) -> Path:
    """The folder with a model's `config.json` and `model.safetensors`.

    `path` is that folder itself, one of LeRobot's step folders (with `pretrained_model` inside), or a run's
    output folder, ours or LeRobot's, whose last checkpoint is taken. Raises UserError if it is none of them.
    """
    newest = last_checkpoint(path)
    candidates = [path, path / "pretrained_model"]
    if newest is not None:
        candidates += [newest, newest / "pretrained_model"]
    for candidate in candidates:
        if (candidate / MANIFEST).is_file() or (candidate / "config.json").is_file():
            return _linked(candidate)
    problem = "is not a checkpoint" if path.exists() else "does not exist"
    raise UserError(
        f"{path}: {problem}: expected a folder with config.json and model.safetensors, or a run's output_dir"
    )


def load_checkpoint_folder(path: Path) -> Path:
    """Find the checkpoint that `path` means and verify all of its files before anything is read from it."""
    folder = resolve_checkpoint(path)
    verify_manifest(folder)
    return folder


def load_last_checkpoint(output_dir: Path) -> Path | None:
    """The run's last checkpoint, verified; None if it has saved none.

    Raises UserError naming what is damaged, and how to go on from the newest checkpoint that is whole.
    """
    last = last_checkpoint(output_dir)
    if last is None:
        return None
    try:
        return load_checkpoint_folder(last)
    except UserError as error:
        raise UserError(f"{error}; {_way_back(saved_checkpoints(output_dir))}") from error


def _way_back(saved: list[Path]) -> str:
    """What to do about checkpoints of which the newest is damaged."""
    damaged: list[str] = []
    for folder in reversed(saved):
        try:
            verify_manifest(folder)
        except UserError:
            damaged.append(str(folder))
            continue
        return (
            f"delete {' and '.join(damaged)}, then the same command continues from {folder}, which is whole"
        )
    return "no earlier checkpoint is whole: expected a new run in another --output_dir"


# --- writing --------------------------------------------------------------------------------------


def _remove(folder: Path) -> None:
    """Delete a folder under a temporary name, so that a crash in between leaves no half checkpoint."""
    doomed = folder.with_name(f"{TEMPORARY_PREFIX}removed-{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def point_to(folder: Path, name: str) -> None:
    """Let the link `name` beside a checkpoint name it, at once."""
    link = folder.with_name(name)
    if link.is_symlink() and os.readlink(link) == folder.name:
        return
    pointer = folder.with_name(f"{TEMPORARY_PREFIX}{name}")
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(folder.name, target_is_directory=True)
    os.replace(pointer, link)
    flush(folder.parent)


def recover(output_dir: Path) -> None:
    """Undo what a killed writer left: delete unfinished folders, let `last` name the newest finished one."""
    for path in (output_dir / CHECKPOINTS).glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    saved = saved_checkpoints(output_dir)
    if saved:
        point_to(saved[-1], LAST)


def _disk_is_full(error: OSError | SafetensorError) -> bool:
    """Whether there was no room; safetensors gives the system's number in its text only."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    number = re.search(r"os error (\d+)", str(error))
    return number is not None and int(number[1]) in DISK_FULL


@contextmanager
def new_checkpoint(output_dir: Path, step: int) -> Iterator[Path]:
    """Yield an empty folder to fill; publish it as `checkpoints/<step>` and `last` when the block ends well.

    If the block fails nothing is published and the previous `last` stays. A full disk, or a checkpoint of
    this step that is there already, raises UserError.
    """
    final = output_dir / CHECKPOINTS / f"{step:06d}"
    if final.exists():
        raise UserError(f"{final}: exists already: expected a step that has not been saved")
    try:
        with whole_folder(final) as folder:
            yield folder
        point_to(final, LAST)
    except (OSError, SafetensorError) as error:
        if not _disk_is_full(error):
            raise
        raise UserError(
            f"{final}: no space left to write it: the checkpoints before it are untouched; free some space, "
            "then run the same command with --resume=true"
        ) from error


def _success(folder: Path) -> float | None:
    """The success rate on a checkpoint's evaluation card, None if it was not evaluated."""
    card = folder / EVALUATION_CARD
    if not card.is_file():
        return None
    try:
        return read_json(card).get("success_rate")
    except UserError as error:  # an old checkpoint's damage must not stop the training
        logger.warning("%s: counts as not evaluated", error)
        return None


def keep_only(output_dir: Path, *, last: int, best: int) -> None:
    """Delete all checkpoints but the `last` newest and the `best` of highest success, the later of equals.

    The link `best` names the best one, if any was evaluated; the one that `last` names always stays.
    """
    saved = saved_checkpoints(output_dir)
    rates = {folder: _success(folder) for folder in saved} if best else {}
    evaluated = [(rate, int(folder.name), folder) for folder, rate in rates.items() if rate is not None]
    ranked = [folder for _, _, folder in sorted(evaluated, reverse=True)]
    if ranked:
        point_to(ranked[0], BEST)
    for folder in saved:
        if folder not in {*saved[-last:], *ranked[:best], last_checkpoint(output_dir)}:
            _remove(folder)
