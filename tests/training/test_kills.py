"""A kill before any single operation on the disk, in the way of writing, linking and deleting checkpoints."""

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embodied.manifest import write_json
from embodied.training.checkpoint import keep_only, load_last_checkpoint, new_checkpoint, recover

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate"}
STEPS = 3


class Killed(BaseException):
    """Nothing happens after it: whoever cleans up is killed again."""


class Killer:
    """Python tells this hook of every operation before it is done; it cannot be removed, so it is shared."""

    def __init__(self) -> None:
        self.left: int | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: tuple) -> None:
        if self.left is not None and event in CHANGES:
            self.left -= 1
            if self.left <= 0:
                raise Killed

    def kills(self, operation: int, run: Callable[[], None]) -> bool:
        """Run a function up to before its n-th operation; whether it had that many."""
        self.left = operation
        try:
            run()
        except Killed:
            return True
        finally:
            self.left = None
        return False


@pytest.fixture(scope="module")
def killer() -> Killer:
    return Killer()


def train(output_dir: Path) -> None:
    """Every step is saved; the first is the best, the last one is kept beside it."""
    recover(output_dir)
    last = load_last_checkpoint(output_dir)
    keep_only(output_dir, last=1, best=1)
    for step in range(int(last.name) + 1 if last else 1, STEPS + 1):
        with new_checkpoint(output_dir, step) as folder:
            (folder / "model.safetensors").write_bytes(bytes([step]))
            write_json(folder / "config.json", {"step": step})
            write_json(folder / "evaluation_card.json", {"success_rate": 1 / step})
        keep_only(output_dir, last=1, best=1)


def content(output_dir: Path) -> dict[str, Any]:
    """Every file, folder and link by name."""
    found: dict[str, Any] = {}
    for path in output_dir.rglob("*"):
        name = str(path.relative_to(output_dir))
        found[name] = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
    return found


def test_a_kill_at_any_operation_is_as_if_it_had_not_been(killer: Killer, tmp_path: Path) -> None:
    """Whatever was left is recovered, whole, and the end is that of the training left alone."""
    train(tmp_path / "alone")
    expected = content(tmp_path / "alone")
    assert {name: value for name, value in expected.items() if isinstance(value, str)} == {
        "checkpoints/last": "000003",
        "checkpoints/best": "000001",
    }
    for operation in itertools.count(1):
        run = tmp_path / str(operation)
        killed = killer.kills(operation, lambda run=run: train(run))
        train(run)
        assert content(run) == expected, f"killed before operation {operation}"
        if not killed:
            break
    assert operation > 50


def test_a_kill_while_a_recovery_is_under_way_is_as_if_it_had_not_been(
    killer: Killer, tmp_path: Path
) -> None:
    """The first kill comes late in the second checkpoint, the second one anywhere in what follows."""
    train(tmp_path / "alone")
    expected = content(tmp_path / "alone")
    for operation in itertools.count(1):
        run = tmp_path / str(operation)
        assert killer.kills(45, lambda run=run: train(run))
        killed = killer.kills(operation, lambda run=run: train(run))
        train(run)
        assert content(run) == expected, f"killed again before operation {operation}"
        if not killed:
            break
