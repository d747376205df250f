"""The section on imagination and foresight: what it shows of `imagine.json`, within the bytes it may take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.evaluation.videos import save_recordings
from embodied.reporting.imagined import imagined
from embodied.reporting.run_folder import read_run
from embodied.rollout import Episode, EpisodeResult
from tests.reporting.conftest import HARMFUL, row, write_json

TASK = "a-task-with-a-rather-long-name-of-its-own"


def write_imagined(folder: Path, *, values: bool = True) -> None:
    """Two looks; foreseen was 0.5 where 2 would have been, had nothing moved; candidate 1 of 3 is chosen."""
    choice: dict[str, Any] = {"values": [0.0, 0.75, 0.25], "chosen": 1} if values else {}
    looks = [
        {"step": 0, "surprise": {"foreseen": None, "nothing moved": None}, **choice},
        {"step": 12, "surprise": {"foreseen": 0.5, "nothing moved": 2.0}, **choice},
    ]
    frames = np.full((2, 32, 64, 3), 90, np.uint8)
    seen = EpisodeResult(episode=Episode(task=TASK, seed=7), instruction="film", frames=frames)

    save_recordings([seen], folder / "videos")
    place = f"videos/{TASK}_7_failure"
    shown = row(TASK, 7, False, stages=[[0, HARMFUL]], film=f"{place}.mp4", strip=f"{place}.png", looks=looks)
    decoder = {"steps": 600, "frames": 1800, "held_out_frames": 200, "error": 0.0125, "floor": 0.05}
    write_json(
        folder / "imagine.json",
        {"decoder": decoder, "imagined": [shown], "mode": "plan", "chunk_steps": 12},
    )


def test_charts_tell_surprise_and_candidates_in_words(make_run: Callable) -> None:
    page = imagined(make_run(write_imagined), 10**7)
    assert page is not None
    assert "foreseen: 0.5 at step 12" in page
    assert "nothing moved: 2 at step 12" in page
    assert "chosen: 0.75 at step 0" in page
    assert "mean: 0.333 at step 0" in page
    assert "worst: 0 at step 0" in page
    assert "0.0125" in page
    assert "<script>" not in page


def test_pictures_that_do_not_fit_are_counted(make_run: Callable) -> None:
    run = make_run(write_imagined)
    assert "left out" not in (imagined(run, 10**7) or "")
    nothing = imagined(run, 0) or ""
    assert "data:" not in nothing
    assert "2 of them left out" in nothing


def test_without_a_plan_there_are_no_candidates(make_run: Callable) -> None:
    page = imagined(make_run(lambda folder: write_imagined(folder, values=False)), 10**7) or ""
    assert "Surprise" in page
    assert "Candidates" not in page


@pytest.mark.parametrize("copy", [True, False])
def test_a_result_counts_where_its_pictures_lie(tmp_path: Path, copy: bool) -> None:
    """The same object that --json wrote elsewhere is no second one."""
    write_imagined(tmp_path / "imagine")
    if copy:
        (tmp_path / "copy.json").write_text((tmp_path / "imagine" / "imagine.json").read_text())
    assert [folder for _, folder in read_run(tmp_path).imagined] == [tmp_path / "imagine"]
