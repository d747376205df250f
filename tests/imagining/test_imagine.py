"""`embodied imagine` from checkpoint to report, on an untrained policy of an environment of one point."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from embodied import cli
from embodied.config import ReportConfig
from embodied.manifest import write_json, write_manifest
from embodied.reporting.report import report

RUN = ["imagine", "--env.type=fake_point", "--env.task=east", "--env.episode_length=9", "--device=cpu"]
RUN += ["--seed=5", "--decoder_steps=3", "--output_dir=out"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(line) == 2
    *_, said = capsys.readouterr().err.splitlines()  # behind progress bars
    assert said.startswith("embodied: ")
    return said


def test_an_episode_beside_what_was_expected_of_it(save_checkpoint: Callable, point_root: Path) -> None:
    line = [*RUN, f"--policy.path={save_checkpoint()}", "--policy.mode=plan", f"--dataset.root={point_root}"]
    assert cli.main(line) == 0
    first = json.loads(Path("out/imagine.json").read_text())
    (row,) = first["imagined"]
    assert (row["task"], row["env_seed"], row["steps"]) == ("east", 5, 9)
    assert row["stages"][0] == [0, "go east"]
    assert [look["step"] for look in row["looks"]] == [0, 3, 6]
    assert [len(look["values"]) for look in row["looks"]] == [4, 4, 4]
    assert row["looks"][0]["surprise"]["foreseen"] is None
    assert row["looks"][1]["surprise"]["foreseen"] > 0
    assert Path("out", row["film"]).is_file()
    assert (first["decoder"]["frames"], first["decoder"]["held_out_frames"]) == (16, 8)
    assert not first["decoder"]["reused"]
    assert first["decoder"]["floor"] > 0

    # Again: the decoder is there, and all is as before.
    assert cli.main(line) == 0
    again = json.loads(Path("out/imagine.json").read_text())
    assert again["decoder"] == {**first["decoder"], "reused": True}
    assert again["imagined"][0]["looks"] == row["looks"]

    # Other steps, another decoder.
    assert cli.main([arg.replace("steps=3", "steps=4") for arg in line]) == 0
    assert not json.loads(Path("out/imagine.json").read_text())["decoder"]["reused"]

    written = report(ReportConfig(run=Path("out")))
    assert written["sections"] == ["imagined", "provenance"]
    page = Path("out/report.html").read_text()
    assert page.count('src="data:video/mp4') == 1
    assert page.count('src="data:image/jpeg') == 1
    for text in (
        "Imagination and foresight",
        "arrive" if len(row["stages"]) > 1 else "go east",
        "Candidates",
    ):
        assert text in page


def test_the_data_are_those_that_the_checkpoint_names(
    save_checkpoint: Callable, point_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_checkpoint()
    line = [*RUN, f"--policy.path={checkpoint}"]
    assert "--dataset.root is missing" in refused(line, capsys)
    write_json(checkpoint / "provenance.json", {"dataset": {"root": "moved"}})
    write_manifest(checkpoint)
    assert "moved is not there" in refused(line, capsys)


def test_nothing_to_look_at(
    save_checkpoint: Callable, point_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save_checkpoint(world_model=False, imagination="none")
    line = [*RUN, f"--policy.path={checkpoint}", f"--dataset.root={point_root}"]
    assert "neither a world model nor imagination" in refused(line, capsys)


def test_data_of_another_robot(
    save_checkpoint: Callable, recording: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*RUN, f"--policy.path={save_checkpoint()}", f"--dataset.root={recording('metaworld')}"]
    assert "world model's action" in refused(line, capsys)
