"""The section on faults in mid-episode: the figures, the strips, and what was broken."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from embodied.chaos.summary import summarise
from embodied.chaos.trial import BARS
from embodied.evaluation.summary import write_rows
from embodied.reporting.chaos import chaos
from embodied.reporting.origins import provenance
from embodied.reporting.run_folder import Run
from tests.reporting.conftest import HARMFUL, ORIGIN, write_json
from tests.reporting.test_sections import Text

STATES = [[-2.0, "ready"], [-1.5, "run"], [0.5, "hold"], [2.0, "run"], [3.0, "end"]]


def rows() -> list[dict[str, Any]]:
    same = {"fault": "black_hole", "hold_ticks": 1, "robot_hold_ms": None, "interrupted": True}
    same |= {"commands": 700, "states": STATES, "problems": []}
    return [
        {**same, "repetition": 0, "hold_ms": 34.0, "resume_s": 0.5},
        {**same, "repetition": 1, "hold_ms": 80.0, "resume_s": 2.5, "problems": [HARMFUL]},
    ]


def write_chaos(folder: Path) -> None:
    faults = {name: {"what": HARMFUL, **one} for name, one in summarise(rows()).items()}
    result = {"faults": faults, "bars": BARS, "repetitions": 2, "robot": "sim_so101", "policy": None}
    write_json(folder / "chaos.json", {**result, **ORIGIN})
    write_json(folder / "again.json", {**result, "command": "embodied chaos --json=again.json"})
    write_rows(rows(), folder / "chaos.jsonl")


def test_it_shows_figures_strips_and_what_was_broken(make_run: Callable[..., Run]) -> None:
    html = chaos(make_run(write_chaos), 0)
    assert html is not None
    page = Text(html)
    assert "black hole 1 of 2 57, at worst 80 ms 1, at worst 1 1.50, at worst 2.50 s - 2 1,400" in page.text
    assert f"black hole, repetition 1: {HARMFUL}" in page.text
    assert "script" not in page.tags
    # Two episodes of run, hold, run; what was before the first decision is not drawn.
    assert html.count("<rect") == 6


def test_a_result_that_lies_there_twice_is_shown_once_with_its_origin(make_run: Callable[..., Run]) -> None:
    run = make_run(write_chaos)
    assert len(run.chaos) == 1
    assert "embodied chaos" in Text(provenance(run, 0) or "").text


def test_a_run_without_faults_has_no_such_section(tmp_path: Path) -> None:
    assert chaos(Run(root=tmp_path), 0) is None
