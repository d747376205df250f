"""The file that `embodied report` writes."""

import re
from pathlib import Path

import pytest

from embodied import cli
from embodied.config import ReportConfig
from embodied.errors import UserError
from embodied.reporting.report import report
from embodied.reporting.sections import SECTIONS


def test_the_first_word_is_the_run(quickstart_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "page.html"
    assert cli.main(["report", str(quickstart_folder), f"--output={output}"]) == 0
    assert output.read_text().startswith("<!doctype html>")
    assert [path.name for path in output.parent.iterdir()] == ["page.html"]


def test_the_page_lies_in_the_run_and_may_be_made_again(tmp_path: Path, quickstart_folder: Path) -> None:
    (tmp_path / "evaluate.json").write_text((quickstart_folder / "evaluate.json").read_text())
    first = report(ReportConfig(run=tmp_path))
    assert first["report"] == str(tmp_path / "report.html")
    assert report(ReportConfig(run=tmp_path)) == first


def test_the_result_says_what_is_on_the_page(quickstart_folder: Path, tmp_path: Path) -> None:
    result = report(ReportConfig(run=quickstart_folder, output=tmp_path / "page.html"))
    # A quickstart compares nothing, has none of the suite's tasks, draws no imagination, looks into no world
    # model, breaks nothing and times nothing as it grows.
    others = ("comparison", "abilities", "imagined", "world-model", "chaos", "speed")
    names = [section.name for section in SECTIONS]
    assert result["sections"] == [name for name in names if name not in others]
    assert result["left_out"] == result["notes"] == []
    assert result["bytes"] == (tmp_path / "page.html").stat().st_size


def test_every_address_on_the_page_is_in_the_page(quickstart_folder: Path, tmp_path: Path) -> None:
    report(ReportConfig(run=quickstart_folder, output=tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    addresses = re.findall(r'(?:src|href|poster|action|srcset|data)="([^"]*)"', page)
    assert addresses
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\(|https?://|//[a-z]+\.", re.sub(r"base64,[^\"]*", "", page))


def test_a_folder_as_output_is_refused(quickstart_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--output=.*is a folder"):
        report(ReportConfig(run=quickstart_folder, output=tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output=.*expected a file in a folder that can be written"):
        report(ReportConfig(run=quickstart_folder, output=tmp_path / "file" / "page.html"))


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (
        ["report"],
        ["report", str(tmp_path)],
        ["report", "a", "b"],
        ["report", "a", "--media_mb=-1"],
    ):
        assert cli.main(line) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_help_names_the_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--help"]) == 0
    assert "usage: embodied report RUN [--flag=value ...]" in capsys.readouterr().out
