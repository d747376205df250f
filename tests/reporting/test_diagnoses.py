"""The section on the world model: numbers beside their floors, whatever of them was made."""

import copy
from pathlib import Path
from typing import Any

import pytest

from embodied.config import ReportConfig
from embodied.errors import UserError
from embodied.reporting.diagnoses import world_model
from embodied.reporting.report import report
from embodied.reporting.run_folder import read_run
from tests.reporting.conftest import CHECKPOINT, HARMFUL, ORIGIN, write_json
from tests.reporting.test_sections import Text

HORIZON = {"chunks": 1, "windows": 9, "episodes": 3, "skill": 0.75, "skill_low": 0.5, "skill_high": 0.9}
FLOORS = {"random": 0.01, "chunk_ridge": 0.3}
FOUND: dict[str, Any] = {
    "rollout": {
        "horizons": [
            {**HORIZON, "steps": 12, "error": 0.11, "copy_error": 0.44},
            {**HORIZON, "steps": 24, "error": 0.22, "copy_error": 0.88},
        ],
        "episodes": 3,
    },
    "probes": {
        "landmarks": [],
        "summary": [
            {"landmark": "other_object", "probe": "mlp", "r2": 0.92, "floor": 0.6, "unexplained": 0.2},
            {"landmark": "goal", "probe": "mlp", "r2": None, "floor": None, "unexplained": None},
        ],
    },
    "ranking": {
        "states": 100,
        "candidates": 64,
        "spearman": 0.66,
        "low": 0.61,
        "high": 0.71,
        "floors": FLOORS,
        "tasks": [{"task": HARMFUL, "states": 100, "spearman": 0.65, "floors": FLOORS}],
    },
    "surprise": {
        "edits": [
            {
                "edit": "repainted",
                "task": "all",
                "auroc": 0.97,
                "low": 0.9,
                "high": 0.99,
                "floors": {"copy": 0.8, "pixels": 0.55},
                "looks": 160,
            }
        ]
    },
    "goals": {
        "tasks": [
            {
                "task": "reach",
                "goals": 20,
                "excluded": 1,
                "success_rate": 0.8,
                "low": 0.58,
                "high": 0.92,
                "floors": {"random": 0.05},
            }
        ],
        "decision_ms": {"p50": 41.0, "p95": 60.0},
    },
}


def diagnosis(**changes: Any) -> dict[str, Any]:
    return {
        "diagnostics": copy.deepcopy(FOUND),
        "checkpoint": CHECKPOINT,
        "env": {},
        "seed": 7,
        **ORIGIN,
        **changes,
    }


def shown(folder: Path) -> Text:
    html = world_model(read_run(folder), 0)
    assert html is not None
    return Text(html)


def test_every_number_stands_beside_its_floor(tmp_path: Path) -> None:
    write_json(tmp_path / "diagnostics.json", diagnosis())
    page = shown(tmp_path)
    for row in (
        "12 0.11 0.44 0.75 0.5 to 0.9 3",
        "other object mlp 0.92 0.6 0.2",
        "goal mlp - - -",
        "all 0.66 0.01 0.3 100",
        "repainted all 0.97 0.9 to 0.99 0.8 0.55 160",
        "reach 80 % 58 to 92 % 5 % 20 1",
        "41 ms in the median",
    ):
        assert row in page.text
    assert "over 100 states" in page.text
    assert "polyline" in page.tags
    assert HARMFUL in page.text
    assert "script" not in page.tags


def test_what_was_not_made_is_not_shown(tmp_path: Path) -> None:
    write_json(tmp_path / "diagnostics.json", diagnosis(diagnostics={"probes": FOUND["probes"]}))
    page = shown(tmp_path)
    assert "Probes" in page.text
    assert not any(title in page.text for title in ("Rollouts", "Ranking", "Surprise"))
    assert "polyline" not in page.tags


def test_the_same_result_found_twice_counts_once_and_another_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "diagnostics.json", diagnosis())
    write_json(tmp_path / "result.json", diagnosis(command="embodied evaluate --json=result.json"))
    assert len(read_run(tmp_path).diagnoses) == 1
    other = diagnosis(diagnostics={"probes": FOUND["probes"]}, checkpoint={**CHECKPOINT, "path": "runs/b"})
    write_json(tmp_path / "other" / "diagnostics.json", other)
    page = shown(tmp_path)
    assert CHECKPOINT["path"] in page.text
    assert "runs/b" in page.text


def test_a_report_of_diagnostics_alone_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no result"):
        read_run(tmp_path)
    write_json(tmp_path / "diagnostics.json", diagnosis())
    result = report(ReportConfig(run=tmp_path))
    assert result["sections"] == ["world-model", "provenance"]
    page = Text((tmp_path / "report.html").read_text()).text
    assert CHECKPOINT["sha256"] in page
    assert ORIGIN["date"] in page
