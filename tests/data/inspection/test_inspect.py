"""Every planted defect is found, by name and place and nothing else; clean recordings have no findings."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied import cli
from embodied.config import InspectConfig, RecordedDataset
from embodied.data.inspection.recording import Episode, stretches
from embodied.data.inspection.run import inspect_dataset
from embodied.data.inspection.sampling import WINDOW, WINDOWS, choose_windows
from embodied.data.inspection.table import CHECKS
from tests.data.inspection.plants import NOTES, PLANTS, Place, copy, film
from tests.recordings import ALOHA, ROBOTS, SO101, add_subgoals, change_numbers, data_file, write_recording

Recording = Callable[[str], Path]


def inspect(root: Path, **flags: Any) -> dict[str, Any]:
    return inspect_dataset(InspectConfig(dataset=RecordedDataset(root=root), **flags))


def found(result: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted({(finding["severity"], finding["kind"]) for finding in result["findings"]})


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_clean_recording_has_no_findings(robot: str, recording: Recording) -> None:
    result = inspect(recording(robot))
    assert result["ok"]
    assert result["findings"] == []


@pytest.mark.parametrize(("kind", "robot", "plant"), PLANTS, ids=lambda item: getattr(item, "__name__", item))
def test_a_planted_defect_is_found_where_it_is(
    kind: str, robot: str, plant: Callable[[Path], Place], recording: Recording, tmp_path: Path
) -> None:
    root = copy(recording(robot), tmp_path / "set")
    place = plant(root)
    result = inspect(root)
    assert not result["ok"]
    assert found(result) == [("problem", kind)]
    assert dataclasses.asdict(place).items() <= result["findings"][0].items()


@pytest.mark.parametrize(("kind", "robot", "plant"), NOTES, ids=lambda item: getattr(item, "__name__", item))
def test_what_may_be_meant_is_a_note(
    kind: str, robot: str, plant: Callable[[Path], Place], recording: Recording, tmp_path: Path
) -> None:
    root = copy(recording(robot), tmp_path / "set")
    place = plant(root)
    result = inspect(root)
    assert result["ok"]
    assert found(result) == [("note", kind)]
    assert dataclasses.asdict(place).items() <= result["findings"][0].items()


def test_a_false_start_and_an_episode_that_comes_twice_are_found(tmp_path: Path) -> None:
    """Episodes 0 to 2 have 40 frames, episode 3 has 6; 1 is a copy of 0."""
    root = write_recording(
        tmp_path / "set", dataclasses.replace(ALOHA, lengths=(40, 40, 40, 6), cameras={"cam_high": (16, 16)})
    )

    def repeat(values: np.ndarray) -> None:
        values[40:80] = values[:40]

    for key in ("observation.state", "action"):
        change_numbers(root, key, repeat)
    result = inspect(root)
    findings = {finding["kind"]: finding["episode"] for finding in result["findings"]}
    assert findings == {"duplicate_episode": 1, "episode_length": 3}


def test_a_camera_frozen_before_it_was_filmed_is_found(tmp_path: Path) -> None:
    """The encoder's noise does not hide it, and the other camera is not blamed."""
    held: dict[str, np.ndarray] = {}

    def freeze(episode: int, frame: int, row: dict) -> None:
        if frame >= 20:
            row["observation.images.wrist"] = held.setdefault("picture", row["observation.images.wrist"])

    root = write_recording(tmp_path / "set", dataclasses.replace(SO101, lengths=(60,)), spoil=freeze)
    result = inspect(root)
    assert found(result) == [("problem", "frozen_camera")]
    assert len(result["findings"]) == 1
    finding = result["findings"][0]
    assert finding["feature"] == "observation.images.wrist"
    first, last = finding["frames"]
    assert 20 <= first <= 26  # the encoder settles
    assert 55 <= last <= 59


def test_a_film_that_was_cut_off_is_found(recording: Recording, tmp_path: Path) -> None:
    """Its index stands at the front, so that it opens; its second half cannot be decoded."""
    root = copy(recording("so101"), tmp_path / "set")
    path = film(root, "front")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = inspect(root)
    assert found(result) == [("problem", "unreadable_picture")]
    assert {finding["feature"] for finding in result["findings"]} == {"observation.images.front"}
    assert max(finding["episode"] for finding in result["findings"]) == 3


def test_every_check_has_a_planted_defect() -> None:
    planted = {kind for kind, _, _ in (*PLANTS, *NOTES)} | {"duplicate_episode", "episode_length"}
    assert planted == set(CHECKS)


# --- the command line -----------------------------------------------------------------------------


def test_the_summary_tells_what_is_in_the_data_set(
    recording: Recording, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, path = recording("so101"), tmp_path / "result.json"
    before = sorted(root.rglob("*"))
    assert cli.main(["inspect", str(root), f"--json={path}"]) == 0
    text = capsys.readouterr().out
    assert "4 with 274 frames at 30 fps; 60 to 80 each, median 67 (2.2 s)" in text
    assert "observation.images.wrist  64x48 video" in text
    assert "4 x 'pick up the red block'" in text
    assert "  gripper.pos " in text
    assert text.endswith("nothing wrong found\n")
    result = json.loads(path.read_text())
    assert result["language"] == {"tasks": {"pick up the red block": 4}, "subtasks": {}}
    assert result["episodes"]["lengths"] == [60, 70, 64, 80]
    assert result["cameras"]["observation.images.front"]["pictures_looked_at"] == 274
    assert sorted(root.rglob("*")) == before


def test_sub_goals_are_counted_by_episodes_that_pursue_them(recording: Recording, tmp_path: Path) -> None:
    root = copy(recording("aloha"), tmp_path / "set")
    add_subgoals(root, [[(0.0, "lift"), (0.1, "hand over"), (0.2, "lift")], [(0.0, "lift")], [], []])
    assert inspect(root)["language"]["subtasks"] == {"lift": 2, "hand over": 1}


def test_problems_end_with_exit_code_1_and_are_all_in_the_json(
    recording: Recording, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root, path = copy(recording("aloha"), tmp_path / "set"), tmp_path / "result.json"

    def spoil(values: np.ndarray) -> None:
        values[[5, 70], 0] = np.nan

    change_numbers(root, "action", spoil)
    assert cli.main(["inspect", f"--dataset.root={root}", f"--json={path}"]) == 1
    assert (
        "problem  not_finite           action left_waist episode 0 frame 5: is nan" in capsys.readouterr().out
    )
    result = json.loads(path.read_text())
    assert result["ok"] is False
    assert [finding["episode"] for finding in result["findings"]] == [0, 1]


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["nowhere"], "--dataset.root=nowhere: expected a LeRobotDataset folder"),
        ([], "--dataset.root is missing"),
        (["a", "--dataset.root=b"], "--dataset.root is given as well as a"),
        (["a", "b"], "b: expected a flag"),
    ],
)
def test_what_cannot_be_inspected_is_one_line(
    args: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", *args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error


@pytest.mark.parametrize("damage", ["truncated rows", "missing rows", "missing film"])
def test_a_part_that_is_missing_or_damaged_is_one_line(
    damage: str, recording: Recording, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = copy(recording("so101"), tmp_path / "set")
    path = film(root, "wrist") if damage == "missing film" else data_file(root)
    if damage == "truncated rows":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "missing rows":
        (path.parent / "file-001.parquet").write_bytes(path.read_bytes())
        path.unlink()
    else:
        path.unlink()
    assert cli.main(["inspect", str(root)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("embodied: ")
    assert str(path) in error


# --- the sample -----------------------------------------------------------------------------------


def test_a_large_data_set_is_sampled_within_its_episodes() -> None:
    episodes = [Episode(index=i, start=1000 * i, stop=1000 * (i + 1)) for i in range(50)]
    windows = choose_windows(episodes, all_frames=False)
    assert len(windows) == WINDOWS
    assert all(stop - start == WINDOW for _, start, stop in windows)
    assert all(episode.start <= start and stop <= episode.stop for episode, start, stop in windows)
    assert windows[0][1] == 0
    assert windows[-1][2] == 50_000
    assert choose_windows(episodes, all_frames=True) == [(e, e.start, e.stop) for e in episodes]


def test_stretches_are_runs_of_true() -> None:
    mask = np.array([True, True, False, True, False, True, True, True])
    assert stretches(mask) == [(0, 1), (3, 3), (5, 7)]
    assert stretches(mask, 2) == [(0, 1), (5, 7)]
    assert stretches(np.zeros(3, bool)) == []


def test_a_sample_is_said_to_be_one(
    recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embodied.data.inspection.sampling.WINDOWS", 3)
    result = inspect(recording("metaworld"))
    assert result["cameras"]["observation.images.corner"]["pictures_looked_at"] == 3 * WINDOW
    assert "48 of 274 looked at (--all_frames=true: all)" in capsys.readouterr().out
    everything = inspect(recording("metaworld"), all_frames=True)
    assert everything["cameras"]["observation.images.corner"]["pictures_looked_at"] == 274
