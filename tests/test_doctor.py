"""The doctor's judgement of single facts, and its report as a whole."""

import pytest

from embodied import doctor
from embodied.config import DoctorConfig
from embodied.errors import UserError


def test_plenty_of_disk_is_no_problem() -> None:
    assert doctor.judge_disk(500.0).problem is None


@pytest.mark.parametrize(("free_gb", "blocking"), [(0.5, True), (5.0, False)])
def test_little_disk_is_a_problem_and_none_blocks(free_gb: float, blocking: bool) -> None:
    finding = doctor.judge_disk(free_gb)
    assert finding.problem is not None
    assert finding.fix is not None
    assert finding.blocking is blocking


def test_without_a_renderer_the_fix_is_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none() -> None:
        raise UserError("rendering: expected EGL, found none; run `apt-get install egl`")

    monkeypatch.setattr(doctor, "choose_renderer", find_none)
    finding = doctor.check_renderer()
    assert finding.blocking
    assert finding.fix == "run `apt-get install egl`"


def report(monkeypatch: pytest.MonkeyPatch, *findings: doctor.Finding) -> dict:
    monkeypatch.setattr(doctor, "CHECKS", tuple(lambda finding=finding: finding for finding in findings))
    return doctor.doctor(DoctorConfig())


def test_advice_leaves_the_report_ok(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = doctor.Finding(topic="a", found="fine")
    slow = doctor.Finding(topic="b", found="slow", problem="it is slow", fix="buy another")
    assert report(monkeypatch, fine, slow)["ok"] is True
    assert "it is slow: buy another" in capsys.readouterr().out


def test_a_blocking_problem_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = doctor.Finding(topic="a", found="none", problem="p", fix="f", blocking=True)
    result = report(monkeypatch, broken)
    assert result["ok"] is False
    assert result["findings"][0]["problem"] == "p"


def test_lerobot_finds_our_policy_and_environment() -> None:
    assert doctor.check_lerobot().problem is None


@pytest.mark.render
def test_frames_are_drawn_at_some_rate() -> None:
    assert doctor.metaworld_frames_per_second(2) > 0
