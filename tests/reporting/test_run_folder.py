"""What is found in the folders of a training run, an evaluation, a quickstart, and several side by side."""

from collections.abc import Callable
from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.reporting.run_folder import Run, read_run
from tests.reporting.conftest import (
    CHECKPOINT,
    COLLECTED,
    TRAINED,
    evaluation,
    write_evaluation,
    write_json,
    write_quickstart,
    write_training,
)

MakeRun = Callable[..., Run]


def test_a_quickstart_is_one_evaluation_with_its_rows_and_films(quickstart_folder: Path) -> None:
    run = read_run(quickstart_folder)
    (found,) = run.evaluations
    assert found.result["checkpoint"] == CHECKPOINT
    assert len(found.rows) == 6
    assert {name: len(rows) for name, rows in found.floor_rows.items()} == {"random": 6, "noop": 6}
    assert [film.row["env_seed"] for film in found.films] == [7, 8, 7, 8]
    assert run.collections == [COLLECTED]
    assert set(run.settings) == {"quickstart", "training", "environment"}
    assert run.notes == []


def test_what_train_returned_belongs_to_the_run_beside_it(quickstart_folder: Path) -> None:
    (found,) = read_run(quickstart_folder).trainings
    assert found.result == TRAINED
    assert found.checkpoint == {"step": "200", "sha256": CHECKPOINT["sha256"]}
    assert found.provenance["command"] == "embodied train --steps=200"
    assert len(found.points) == 12


def test_episode_rows_alone_make_an_evaluation(make_run: MakeRun) -> None:
    (found,) = make_run(write_evaluation).evaluations
    assert [task["successes"] for task in found.result["tasks"]] == [2, 0]
    assert found.result["floors"]["random"]["success_rate"] == 0
    assert "checkpoint" not in found.result


def test_a_result_beside_its_rows_is_the_same_evaluation(make_run: MakeRun) -> None:
    run = make_run(
        write_evaluation,
        lambda folder: write_json(folder / "evaluation.json", evaluation()),
        lambda folder: write_json(
            folder / "copy.json", {**evaluation(), "collect": COLLECTED, "train": TRAINED}
        ),
    )
    (found,) = run.evaluations
    assert found.result["checkpoint"] == CHECKPOINT
    assert len(found.rows) == 6
    assert run.collections == [COLLECTED]
    assert [one.result for one in run.trainings] == [TRAINED]


def test_checkpoints_that_did_equally_well_stay_two_evaluations(make_run: MakeRun) -> None:
    other = {**CHECKPOINT, "sha256": "0" * 64}
    run = make_run(
        lambda folder: write_json(folder / "1.json", evaluation()),
        lambda folder: write_json(folder / "2.json", evaluation(checkpoint=other)),
    )
    assert [found.label for found in run.evaluations] == ["1", "2"]


def test_runs_side_by_side_are_all_read(make_run: MakeRun) -> None:
    run = make_run(
        lambda folder: write_quickstart(folder / "0"),
        lambda folder: write_training(folder / "1" / "training", steps=100),
    )
    assert [one.label for one in run.trainings] == ["0/training", "1/training"]


def test_a_training_run_shows_the_evaluation_of_its_last_checkpoint(make_run: MakeRun) -> None:
    card = {**evaluation(), "evaluated": True, "step": 200}
    run = make_run(
        write_training,
        lambda folder: write_json(folder / "checkpoints" / "000200" / "evaluation_card.json", card),
    )
    assert [found.label for found in run.evaluations] == ["step 200"]


def test_a_training_run_without_evaluations_has_none(make_run: MakeRun) -> None:
    run = make_run(write_training)
    assert run.evaluations == []
    assert [one.label for one in run.trainings] == ["run"]


def test_a_log_that_was_cut_off_is_read_up_to_there(make_run: MakeRun) -> None:
    def cut(folder: Path) -> None:
        log = folder / "metrics.jsonl"
        log.write_text(log.read_text()[:-5])

    run = make_run(write_training, cut)
    assert len(run.trainings[0].points) == 11
    (note,) = run.notes
    assert note.startswith("metrics.jsonl cannot be read from line 12 on")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b'{"tasks": [{}], "success_rate": 1}'])
def test_a_file_that_holds_no_result_spoils_nothing(make_run: MakeRun, content: bytes) -> None:
    run = make_run(write_evaluation, lambda folder: (folder / "evaluation.json").write_bytes(content))
    assert len(run.evaluations) == 1
    assert len(run.notes) == (content in (b"{", b"\xff\xfe"))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--run=.*: holds no result"):
        read_run(tmp_path)
    with pytest.raises(UserError, match=r"--run=.*nowhere: expected the folder"):
        read_run(tmp_path / "nowhere")


def test_the_reason_why_nothing_was_found_is_in_the_line(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.json cannot be read"):
        read_run(tmp_path)
