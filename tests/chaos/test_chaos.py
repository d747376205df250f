"""The verb: a plan that is resumed, a result, and short forms of the real thing."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.chaos import chaos as chaos_module
from embodied.chaos.chaos import chaos
from embodied.chaos.checks import Row
from embodied.chaos.config import ChaosConfig
from embodied.chaos.faults import FAULTS
from embodied.chaos.recorder import Recording, finish, moments, try_kill
from embodied.chaos.stage import Stage, null_policy
from embodied.chaos.summary import summarise
from embodied.chaos.waving import SPEED, WavingRunner
from embodied.cli import main
from embodied.errors import UserError
from embodied.flags import parse_flags
from embodied.robots.devices import SimSO101Config
from embodied.serving.runner import Request
from tests.serving.fakes import POLICY

FLAGS = ["--null", "--robot.type=sim_so101", "--robot.width=32", "--robot.height=24"]
IN_TIME = re.compile("expected at most")
"""What a busy machine may break."""


def config(folder: Path, *flags: str) -> ChaosConfig:
    return parse_flags(ChaosConfig, [*FLAGS, f"--output_dir={folder}", *flags])


def row(fault: str, number: int, **more: Any) -> Row:
    blank = dict.fromkeys(("hold_ms", "hold_ticks", "resume_s", "robot_hold_ms", "interrupted"))
    rest = {"commands": 10, "states": [], "problems": [], "load": 0.5}
    return {"repetition": number, "fault": fault, **blank, **rest, **more}


class Rows:
    """Stands in for the trials: says which were asked for, and fails after some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, int]] = []
        self.most = 10**6
        self.problems: list[str] = []
        monkeypatch.setattr(chaos_module, "_rows", self)

    def __call__(self, config: ChaosConfig, trials: Iterable[tuple[str, int]]) -> Iterable[Row]:
        for name, number in trials:
            if len(self.asked) == self.most:
                raise KeyboardInterrupt
            self.asked.append((name, number))
            yield row(name, number, problems=self.problems)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


def test_an_interrupted_run_goes_on_with_what_is_missing(rows: Rows, tmp_path: Path) -> None:
    flags = ("--faults=server_killed,latency", "--repetitions=2")
    rows.most = 3
    with pytest.raises(KeyboardInterrupt):
        chaos(config(tmp_path, *flags))
    rows.most = 10**6
    result = chaos(config(tmp_path, *flags))
    assert rows.asked == [("server_killed", 0), ("server_killed", 1), ("latency", 0), ("latency", 1)]
    assert result["ok"]
    assert [one["repetitions"] for one in result["faults"].values()] == [2, 2]
    chaos(config(tmp_path, *flags))
    assert len(rows.asked) == 4
    written = json.loads((tmp_path / "chaos.json").read_text())
    assert written["faults"] == result["faults"]
    assert {"command", "commit", "date", "machine"} <= written.keys()


def test_more_repetitions_of_other_faults_can_be_added_but_not_with_other_settings(
    rows: Rows, tmp_path: Path
) -> None:
    chaos(config(tmp_path, "--faults=latency", "--repetitions=1"))
    chaos(config(tmp_path, "--faults=frame_loss", "--repetitions=2"))
    assert len(rows.asked) == 3
    with pytest.raises(UserError, match=r"was begun with --seed=0: expected that, not 1, or another folder"):
        chaos(config(tmp_path, "--faults=latency", "--repetitions=2", "--seed=1"))
    with pytest.raises(UserError, match=r"was begun with --robot\.width=32: expected that, not 64"):
        chaos(config(tmp_path, "--faults=latency", "--robot.width=64"))


def test_a_broken_bar_is_named_and_the_exit_code_is_1(
    rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.problems = ["it did not hold"]
    assert main(["chaos", *FLAGS, "--repetitions=1", "--faults=black_hole", f"--output_dir={tmp_path}"]) == 1
    printed = capsys.readouterr().out
    assert "black_hole 0: it did not hold" in printed
    assert "BROKEN" in printed


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--policy.path=x"], "--policy.path and --null: both are given"),
        (["--null=false"], "--policy.path and --null: neither is given"),
        (["--robot.type=koch_follower", "--robot.port=x"], "--robot.type=koch_follower: expected sim_"),
        (["--chunking=sync"], "--chunking=sync: expected one of rtc, ensemble"),
        (["--repetitions=0"], "--repetitions=0: expected at least 1"),
        (["--faults=fire"], "--faults=fire: expected some of server_killed"),
    ],
)
def test_bad_input_is_one_line(flags: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = [] if "koch_follower" in flags[0] else FLAGS[1:]
    assert main(["chaos", "--null", *small, *flags]) == 2
    assert capsys.readouterr().err.startswith(f"embodied: {line}")


def test_the_flags_of_the_verbs_that_drive_a_robot_are_listed_without_choosing_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for verb in ("run", "chaos"):
        assert main([verb, "--help"]) == 0
        assert "--robot.type" in capsys.readouterr().out


def test_run_takes_its_robot_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--robot.type=sim_so101", "--task=wave", "--policy.path=x", "--server.url=ws://127.0.0.1:9"]
    assert main(["run", *flags]) == 2
    assert "both are given" in capsys.readouterr().err


def test_a_summary_has_median_and_worst_of_what_was_measured() -> None:
    values = [30.0, 40.0, 90.0]
    rows = [row("black_hole", n, hold_ms=value, interrupted=True) for n, value in enumerate(values)]
    rows.append(row("black_hole", 3, problems=["it did not hold"]))
    summary = summarise(rows)["black_hole"]
    assert summary["hold_ms"] == {"median": 40.0, "worst": 90.0}
    assert summary["resume_s"] is None
    assert (summary["repetitions"], summary["kept"], summary["interrupted"]) == (4, 3, 3)
    assert (summary["commands"], summary["problems"]) == (40, ["3: it did not hold"])


def test_the_null_policy_waves_the_first_joint_and_holds_the_others() -> None:
    runner = WavingRunner(POLICY)
    low, high = POLICY.action.low[0], POLICY.action.high[0]
    images = {"front": np.zeros((2, 3, 3), np.uint8)}
    for first, sign in ((-5.0, 1), (5.0, -1)):
        state = np.array([first, 1, 2, 3, 4, 5], np.float32)
        (decision,) = runner.act([Request(session="s", images=images, state=state, task="")])
        step = sign * SPEED * (high - low) / POLICY.fps
        np.testing.assert_allclose(decision.actions[:, 0], first + step * np.arange(10), rtol=1e-5)
        np.testing.assert_array_equal(decision.actions[:, 1:], np.tile(state[1:], (10, 1)))


@pytest.mark.slow
@pytest.mark.render
def test_every_fault_is_survived_by_real_processes(tmp_path: Path) -> None:
    result = chaos(config(tmp_path, "--faults=all", "--repetitions=2"))
    assert list(result["faults"]) == list(FAULTS)
    for name, one in result["faults"].items():
        assert [line for line in one["problems"] if not IN_TIME.search(line)] == [], name
        assert one["repetitions"] == 2
        assert one["commands"] > 50
    for name in ("server_killed", "server_stopped", "black_hole", "client_stopped"):
        assert result["faults"][name]["interrupted"] == 2


@pytest.mark.slow
@pytest.mark.render
def test_a_policy_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    flags = [f"--policy.path={tmp_path}", "--robot.type=sim_so101", "--robot.width=32", "--robot.height=24"]
    settings = parse_flags(ChaosConfig, [*flags, f"--output_dir={tmp_path / 'out'}"])
    with pytest.raises(UserError, match=r"the policy cannot be served: .*is not a checkpoint"):
        chaos(settings)


@pytest.mark.slow
@pytest.mark.render
def test_a_killed_recording_loses_the_running_episode_at_most(tmp_path: Path) -> None:
    robot = SimSO101Config(width=32, height=24)
    stage = Stage(robot, null_policy(robot), tmp_path)
    recording = Recording(root=tmp_path / "data")
    try:
        for number, moment in enumerate(moments(2, seed=0)):
            trial = try_kill(stage, recording, moment, tmp_path / str(number))
            assert trial["problems"] == []
            assert trial["kept"] >= trial["said"] >= moment.episodes - 1
        assert finish(stage, recording, tmp_path / "last")["problems"] == []
        assert len(recording.lengths) >= 1
        recording.digests[0] = "another"
        assert finish(stage, recording, tmp_path / "again")["problems"] == [
            "an episode of before has changed, or is gone"
        ]
    finally:
        stage.close()
