"""Checkpoint folders: all or nothing when written, every byte checked when read."""

import errno
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from embodied.errors import UserError
from embodied.manifest import MANIFEST
from embodied.training.checkpoint import (
    keep_only,
    last_checkpoint,
    load_checkpoint_folder,
    load_last_checkpoint,
    new_checkpoint,
    recover,
    resolve_checkpoint,
    saved_checkpoints,
    verify_manifest,
)


def save(output_dir: Path, step: int, success: float | None = None) -> Path:
    with new_checkpoint(output_dir, step) as folder:
        if success is not None:
            (folder / "evaluation_card.json").write_text(f'{{"success_rate": {success}}}')
        (folder / "config.json").write_text('{"type": "act"}')
        (folder / "model.safetensors").write_bytes(bytes(range(256)))
        (folder / "training_state").mkdir()
        (folder / "training_state" / "state.json").write_text(f'{{"step": {step}}}')
    return output_dir / "checkpoints" / f"{step:06d}"


def test_a_saved_checkpoint_verifies_and_is_the_last(tmp_path: Path) -> None:
    """The folder is named by its step and every way to name it leads there."""
    folder = save(tmp_path, 7)
    assert verify_manifest(folder)
    assert load_checkpoint_folder(tmp_path) == load_checkpoint_folder(folder) == folder
    assert resolve_checkpoint(tmp_path / "checkpoints" / "last") == folder


def test_any_flipped_bit_or_truncation_is_refused_and_the_file_named(tmp_path: Path) -> None:
    """Two hundred random kinds of damage, in every file, the manifest included."""
    folder = save(tmp_path, 1)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    draw = random.Random(0)
    for case in range(200):
        path = files[case % len(files)]
        intact = path.read_bytes()
        if draw.random() < 0.3:
            damaged = intact[: draw.randrange(len(intact))]
        else:
            place = draw.randrange(len(intact))
            damaged = bytearray(intact)
            damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError) as refusal:
            load_checkpoint_folder(folder)
        assert str(path) in str(refusal.value)
        path.write_bytes(intact)
    assert verify_manifest(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that the manifest lists must be there, and the manifest itself where our trainer wrote."""
    folder = save(tmp_path, 1)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: is missing"):
        load_checkpoint_folder(folder)


def test_a_file_that_was_added_is_named(tmp_path: Path) -> None:
    """Two checkpoints copied into each other are neither of them; what file managers leave is no matter."""
    folder = save(tmp_path, 1)
    (folder / ".DS_Store").write_bytes(b"icons")
    assert verify_manifest(folder)
    (folder / "training_state" / "extra.json").write_text("{}")
    with pytest.raises(UserError, match=r"training_state/extra\.json: is not listed"):
        verify_manifest(folder)


def test_every_byte_of_the_manifest_counts(tmp_path: Path) -> None:
    """One flipped bit in each: names, numbers, hashes, brackets and white space."""
    folder = save(tmp_path, 1)
    manifest = folder / MANIFEST
    intact = manifest.read_bytes()
    for place in range(len(intact)):
        damaged = bytearray(intact)
        damaged[place] ^= 1 << place % 8
        manifest.write_bytes(damaged)
        with pytest.raises(UserError, match=r"MANIFEST\.json"):
            verify_manifest(folder)


@pytest.mark.parametrize("change", [lambda text: text + "\n", lambda text: text.replace(": ", ":", 1)])
def test_a_manifest_that_means_the_same_is_damaged_all_the_same(tmp_path: Path, change: Callable) -> None:
    """Every byte counts, white space too: there is one way to write a list."""
    folder = save(tmp_path, 1)
    manifest = folder / MANIFEST
    manifest.write_text(change(manifest.read_text()))
    with pytest.raises(UserError, match=r"MANIFEST\.json: is damaged"):
        verify_manifest(folder)


def test_a_folder_without_manifest_loads_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """LeRobot's own trainer writes `<step>/pretrained_model` without a manifest."""
    folder = tmp_path / "checkpoints" / "000010" / "pretrained_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "last").symlink_to("000010")
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint_folder(tmp_path) == folder
    assert [record.message.count(MANIFEST) for record in caplog.records] == [1]


def test_a_failing_writer_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    """Nothing half-written is published or left behind, and `last` stays."""
    before = save(tmp_path, 1)

    def fail(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), new_checkpoint(tmp_path, 2) as folder:
        fail(folder)
    assert saved_checkpoints(tmp_path) == [before]
    assert last_checkpoint(tmp_path) == before
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["000001", "last"]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    """The message names the checkpoint; other input and output errors pass through unchanged."""
    for error in (
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ):
        with pytest.raises(UserError, match="000002: no space left"), new_checkpoint(tmp_path, 2):
            raise error
    with pytest.raises(SafetensorError), new_checkpoint(tmp_path, 2):
        raise SafetensorError("Error while serializing: I/O error: Permission denied (os error 13)")
    with pytest.raises(PermissionError), new_checkpoint(tmp_path, 2):
        raise PermissionError(errno.EACCES, "denied")


def test_recovery_after_a_kill_between_rename_and_pointer(tmp_path: Path) -> None:
    """Unfinished folders go; `last` moves to the newest finished one; everything finished stays."""
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    last = tmp_path / "checkpoints" / "last"
    last.unlink()
    last.symlink_to("000001")
    (tmp_path / "checkpoints" / ".tmp-000003").mkdir()
    (tmp_path / "checkpoints" / ".tmp-last").symlink_to("000003")
    recover(tmp_path)
    assert last_checkpoint(tmp_path) == newest
    assert sorted(path.name for path in last.parent.iterdir()) == ["000001", "000002", "last"]


def test_before_the_first_pointer_the_newest_folder_is_the_last(tmp_path: Path) -> None:
    """A crash right after the first rename leaves no link, but a complete checkpoint."""
    folder = save(tmp_path, 3)
    (tmp_path / "checkpoints" / "last").unlink()
    assert last_checkpoint(tmp_path) == folder


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    """Of 1, 2, 10 the two newest by number stay."""
    for step in (1, 2, 10):
        save(tmp_path, step)
    keep_only(tmp_path, last=2, best=1)
    assert [folder.name for folder in saved_checkpoints(tmp_path)] == ["000002", "000010"]
    assert not (tmp_path / "checkpoints" / "best").exists()


@pytest.mark.parametrize(
    ("best", "kept", "named"),
    [
        (0, ["000005"], None),
        (1, ["000003", "000005"], "000003"),
        (2, ["000002", "000003", "000005"], "000003"),
    ],
)
def test_the_best_are_kept_beside_the_newest(
    tmp_path: Path, best: int, kept: list[str], named: str | None
) -> None:
    """Of equally good ones the later counts; the one that was not evaluated is not among the best."""
    for step, success in ((1, 0.2), (2, 0.75), (3, 0.75), (4, None), (5, 0.5)):
        save(tmp_path, step, success)
    keep_only(tmp_path, last=1, best=best)
    link = tmp_path / "checkpoints" / "best"
    assert [folder.name for folder in saved_checkpoints(tmp_path)] == kept
    assert (link.resolve().name if link.exists() else None) == named
    assert resolve_checkpoint(tmp_path).name == "000005"
    assert named is None or resolve_checkpoint(link).name == named


def test_a_damaged_last_checkpoint_is_refused_with_the_way_back(tmp_path: Path) -> None:
    """Following the message, word for word, leads to the newest checkpoint that is whole."""
    whole, damaged, last = (save(tmp_path, step) for step in (1, 2, 3))
    for folder in (damaged, last):
        (folder / "config.json").write_text("{")
    with pytest.raises(UserError) as refusal:
        load_last_checkpoint(tmp_path)
    message = str(refusal.value)
    assert message.startswith(f"{last / 'config.json'}: has 1 bytes")
    assert message.endswith(
        f"delete {last} and {damaged}, then the same command continues from {whole}, which is whole"
    )
    shutil.rmtree(last)
    shutil.rmtree(damaged)
    recover(tmp_path)
    assert load_last_checkpoint(tmp_path) == whole
    assert (tmp_path / "checkpoints" / "last").resolve() == whole


def test_where_no_checkpoint_is_whole_a_new_run_is_advised(tmp_path: Path) -> None:
    """There is nothing to go back to."""
    (save(tmp_path, 1) / "config.json").write_text("{")
    with pytest.raises(UserError, match="no earlier checkpoint is whole: expected a new run"):
        load_last_checkpoint(tmp_path)


def test_a_step_is_never_overwritten(tmp_path: Path) -> None:
    """Saving a step twice is refused before anything is touched."""
    folder = save(tmp_path, 1)
    with pytest.raises(UserError, match="exists already"):
        save(tmp_path, 1)
    assert verify_manifest(folder)


@pytest.mark.parametrize(("exists", "problem"), [(True, "is not a checkpoint"), (False, "does not exist")])
def test_a_path_that_is_no_checkpoint_is_refused(tmp_path: Path, exists: bool, problem: str) -> None:
    """The message says what is wrong and what was expected."""
    path = tmp_path if exists else tmp_path / "nothing"
    with pytest.raises(UserError, match=f"{problem}: expected a folder with config.json"):
        resolve_checkpoint(path)
