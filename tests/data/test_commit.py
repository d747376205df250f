"""Files that change together do so whatever moment a crash picks."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from embodied.data import commit as module
from embodied.data.commit import COMMITTED, PENDING, new_commit, recover

PLACES = ("data/one.txt", "meta/deep/two.txt", "three.txt")


class Crash(BaseException):
    """What no code is prepared for."""


def contents(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def write(root: Path, text: str) -> None:
    with new_commit(root) as commit:
        for place in PLACES:
            commit.add(place, text.encode())


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], int]:
    """Let the `number`-th call that changes or flushes the disk fail; returns a count of the calls."""
    calls = 0

    def crashing(function: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                raise Crash
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(module.os, "replace", crashing(os.replace))
    monkeypatch.setattr(module.os, "fsync", crashing(os.fsync))
    monkeypatch.setattr(Path, "rename", crashing(Path.rename))
    monkeypatch.setattr(Path, "mkdir", crashing(Path.mkdir))
    # After a crash, nobody tidies up.
    monkeypatch.setattr(module.shutil, "rmtree", crashing(module.shutil.rmtree))
    return lambda: calls


def test_a_commit_replaces_every_file(tmp_path: Path) -> None:
    write(tmp_path, "old")
    write(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys(PLACES, "new")


def test_an_error_inside_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, "old")
    with suppress(Crash), new_commit(tmp_path) as commit:
        commit.add(PLACES[0], b"new")
        raise Crash
    assert contents(tmp_path) == dict.fromkeys(PLACES, "old")


def test_after_a_crash_at_any_step_all_files_are_old_or_all_are_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for number in range(1, 100):
        root = tmp_path / str(number)
        root.mkdir()
        write(root, "old")
        with monkeypatch.context() as patch:
            calls = crash_at(patch, number)
            with suppress(Crash):
                write(root, "new")
            is_over = calls() < number
        recover(root)
        assert not (root / PENDING).exists()
        assert not (root / COMMITTED).exists()
        (state,) = set(contents(root).values())
        assert set(contents(root)) == set(PLACES)
        outcomes.append(state)
        if is_over:
            break
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}
    assert len(outcomes) > 10


def test_recovery_can_crash_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_move_to_places", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(tmp_path, "new")
    for number in range(1, 9):
        with monkeypatch.context() as patch:
            crash_at(patch, number)
            with suppress(Crash):
                recover(tmp_path)
    recover(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(PLACES, "new")
