"""Collection that is stopped, in whatever way, is completed by the same command to the very same files."""

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot.datasets import LeRobotDataset

from embodied.config import CollectConfig, DatasetConfig
from embodied.data import commit, kill_trials
from embodied.data.collect import ERROR_FILE, collect, complete_collection
from embodied.data.commit import PENDING
from embodied.data.dataset import fingerprint
from embodied.data.kill_trials import Moment
from embodied.data.writer import EpisodeWriter, count_episodes
from embodied.errors import UserError
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from tests.fake_envs import PointEnv, PointEnvConfig

EPISODES = 4


def configure(root: Path, **changes: Any) -> CollectConfig:
    settings: dict[str, Any] = {
        "env": PointEnvConfig(task="east,west"),
        "episodes": EPISODES // 2,
        "workers": 1,
    }
    return CollectConfig(dataset=DatasetConfig(root=root), **(settings | changes))


def on_episode(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Do something right before the episode of this number is written."""
    add = EpisodeWriter.add

    def patched(writer: EpisodeWriter, episode: Any) -> None:
        if writer.num_episodes == number:
            action()
        add(writer, episode)

    monkeypatch.setattr(EpisodeWriter, "add", patched)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "point"
    assert collect(configure(root))["recorded"] == EPISODES
    return root


@pytest.mark.parametrize("number", range(EPISODES))
def test_an_interrupted_collection_ends_with_the_same_files(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    root = tmp_path / "point"
    with monkeypatch.context() as patch:
        on_episode(patch, number, interrupt)
        with pytest.raises(KeyboardInterrupt, match=f"keeps {number} of 4 episodes, and the same"):
            collect(configure(root))
    if number:
        opened = LeRobotDataset("local/point", root=root, video_backend="pyav")
        assert (opened.num_episodes, opened[len(opened) - 1]["episode_index"]) == (number, number - 1)
    result = collect(configure(root))
    assert result["recorded"] == EPISODES - number
    assert result["fingerprint"] == fingerprint(root) == fingerprint(whole)
    assert result["tasks"]["west"]["expert"] == {"episodes": 2, "successes": 2, "frames": 24, "attempts": 2}
    assert {path.name for path in root.iterdir()} == {"collection.json", "data", "meta"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_a_collection_with_a_line_that_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    on_episode(monkeypatch, 1, lambda: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt, match=r"stopped; .* keeps [12] of 4 episodes, and the"):
        collect(configure(tmp_path / "point"))
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seed": 1},
            "--seed=1: expected 0, with which the collection in .* began, or another",
        ),
        ({"env": PointEnvConfig(task="east")}, "--env.task=east: expected east,west"),
        ({"video": True}, "--video=True: expected False"),
    ],
)
def test_another_commands_flags_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    on_episode(monkeypatch, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        collect(configure(tmp_path))
    before = fingerprint(tmp_path)
    with pytest.raises(UserError, match=message):
        collect(configure(tmp_path, **changes))
    assert fingerprint(tmp_path) == before


def test_workers_and_the_folders_place_may_change(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        on_episode(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            collect(configure(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    collect(configure(tmp_path / "there", workers=3, json=tmp_path / "result.json"))
    assert fingerprint(tmp_path / "there") == fingerprint(whole)


def test_a_complete_folder_is_refused_unless_completeness_is_what_is_wanted(whole: Path) -> None:
    with pytest.raises(UserError, match=r"complete data set .* expected a folder that is new or empty"):
        collect(configure(whole))
    result = complete_collection(configure(whole))
    assert (result["episodes"], result["recorded"], result["frames_per_second"]) == (EPISODES, 0, 0)


def test_a_collection_killed_in_its_last_commit_is_finished_not_refused(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    shutil.copytree(whole, root)
    (root / PENDING).mkdir()
    assert collect(configure(root))["recorded"] == 0
    assert not (root / PENDING).exists()


def test_two_collections_never_fill_one_folder(whole: Path) -> None:
    lock = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)"
    command = [sys.executable, "-c", f"{lock}; print(flush=True); input()", str(whole)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="expected a folder that no other process fills"):
            complete_collection(configure(whole))
        other.communicate(b"\n")


def test_a_note_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    (tmp_path / ".collection.json.partial").write_text('{"env": {"ty')
    collect(configure(tmp_path))
    assert json.loads((tmp_path / "collection.json").read_text())["env"]["type"] == "fake_point"


def test_a_full_disk_keeps_what_is_recorded(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer under every file refuses to write, from the third episode on."""
    root = tmp_path / "point"

    def fill() -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(commit.Path, "write_bytes", refuse)

    on_episode(monkeypatch, 2, fill)
    message = r"No space left on device: expected free space; \S* keeps 2 of 4 episodes"
    with pytest.raises(UserError, match=message):
        collect(configure(root))
    monkeypatch.undo()
    assert LeRobotDataset("local/point", root=root, video_backend="pyav").num_episodes == 2
    collect(configure(root))
    assert fingerprint(root) == fingerprint(whole)


def test_a_renderer_that_fails_in_the_middle_is_one_line_and_a_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "point"

    def lose_the_context() -> None:
        def observe(env: PointEnv) -> None:
            raise RuntimeError("gladLoadGL error\nand a page about it")

        monkeypatch.setattr(PointEnv, "observe", observe)

    on_episode(monkeypatch, 1, lose_the_context)
    with pytest.raises(UserError) as caught:
        collect(configure(root))
    message = str(caught.value)
    assert message.startswith("west, expert episode 0: RuntimeError: gladLoadGL error; see ")
    assert "\n" not in message
    assert "in observe" in (root / ERROR_FILE).read_text()
    monkeypatch.undo()
    collect(configure(root))
    assert fingerprint(root) == fingerprint(whole)
    assert not (root / ERROR_FILE).exists()


def reach(root: Path) -> CollectConfig:
    return configure(root, env=EmbodiedMetaworldEnv(task="reach", width=32, height=24), episodes=3, workers=2)


@pytest.mark.slow
@pytest.mark.render
def test_a_worker_that_is_killed_is_named_and_leaves_no_other_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_a_worker() -> None:
        worker = multiprocessing.active_children()[0]
        worker.kill()
        worker.join()

    with monkeypatch.context() as patch:
        on_episode(patch, 0, kill_a_worker)
        with pytest.raises(UserError, match=r"process was killed by SIGKILL; \S* keeps [12] of 3"):
            collect(reach(tmp_path / "killed"))
    assert not multiprocessing.active_children()
    collect(reach(tmp_path / "killed"))
    collect(dataclasses.replace(reach(tmp_path / "whole"), workers=1))
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.render
def test_a_file_that_may_not_grow_ends_the_command_with_one_line(tmp_path: Path) -> None:
    """As a quota does it: no file over 200 kB, which the third episode's would be."""
    flags = ["--env.task=reach", "--env.width=32", "--env.height=32", "--episodes=9", "--workers=1"]
    limited = "import resource, sys; from embodied.cli import main; "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", limited, "collect", *flags, f"--dataset.root={tmp_path / 'reach'}"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 2, child.stderr
    line = child.stderr.strip().splitlines()[-1]
    assert line.startswith(f"embodied: {tmp_path / 'reach'}: File too large: expected free space; ")
    kept = count_episodes(tmp_path / "reach")
    assert 0 < kept < 9
    assert f"keeps {kept} of 9 episodes" in line


@pytest.mark.slow
@pytest.mark.render
@pytest.mark.timeout(1200)
def test_kill_9_while_recording_and_while_committing(tmp_path: Path) -> None:
    flags = ["--env.task=reach", "--env.width=32", "--env.height=32", "--episodes=3", "--workers=2"]
    pace = kill_trials.run(flags, tmp_path / "whole")
    for number, sign in enumerate(("episode", "committing")):
        moment = Moment(episodes=1, sign=sign, seconds=0.3 * pace.each if sign == "episode" else 0.0)
        trial = kill_trials.try_moment(moment, flags, tmp_path / str(number), tmp_path / "whole")
        assert kill_trials.passed(trial), trial
