"""The quickstart: every stage once, a second run that repeats none, and a folder that belongs to one run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embodied import quickstart as module
from embodied.config import QuickstartConfig
from embodied.errors import UserError

STAGES = ("complete_collection", "train", "evaluate")


def fake_stages(monkeypatch: pytest.MonkeyPatch, fails: str | None = None) -> list[str]:
    """Replace the stages by ones that note that they ran."""
    ran: list[str] = []

    def fake(name: str):
        def stage(config) -> dict:
            ran.append(name)
            if name == fails:
                raise KeyboardInterrupt
            return {"tasks": [], "floors": {}, "success_rate": 1.0, "checkpoint": "c", "stage": name}

        return stage

    for name in STAGES:
        monkeypatch.setattr(module, name, fake(name))
    monkeypatch.setattr(module, "report", lambda config: {})
    monkeypatch.setattr(module, "format_table", lambda *_: "table")
    monkeypatch.setattr(module, "join_strips", lambda folder, path: path)
    return ran


def test_each_stage_runs_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = fake_stages(monkeypatch)
    config = QuickstartConfig(output_dir=tmp_path)
    first = module.quickstart(config)
    assert ran == list(STAGES)
    assert first["stage"] == "evaluate"
    assert first["collect"]["stage"] == "complete_collection"
    assert module.quickstart(config) == first
    assert ran == list(STAGES)


def test_the_report_of_its_folder_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = fake_stages(monkeypatch)
    monkeypatch.setattr(module, "report", lambda config: ran.append(config.run))
    module.quickstart(QuickstartConfig(output_dir=tmp_path))
    assert ran == [*STAGES, tmp_path]


def test_a_second_run_begins_with_the_stage_that_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = QuickstartConfig(output_dir=tmp_path)
    fake_stages(monkeypatch, fails="train")
    with pytest.raises(KeyboardInterrupt):
        module.quickstart(config)
    ran = fake_stages(monkeypatch)
    module.quickstart(config)
    assert ran == ["train", "evaluate"]


def test_a_folder_of_a_run_with_other_settings_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_stages(monkeypatch)
    module.quickstart(QuickstartConfig(output_dir=tmp_path, seed=1))
    with pytest.raises(UserError, match="--seed=2: expected 1"):
        module.quickstart(QuickstartConfig(output_dir=tmp_path, seed=2))


def test_too_few_episodes_for_the_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--eval_episodes=2: expected at least 3"):
        module.quickstart(QuickstartConfig(output_dir=tmp_path / "new", eval_episodes=2))
    assert not (tmp_path / "new").exists()


def test_the_filmstrip_shows_one_strip_per_task_and_prefers_successes(tmp_path: Path) -> None:
    colors = {"reach_1_failure": 10, "reach_2_success": 20, "drawer-open_1_failure": 30}
    for name, color in colors.items():
        Image.new("RGB", (8, 4), (color,) * 3).save(tmp_path / f"{name}.png")
    joined = np.asarray(Image.open(module.join_strips(tmp_path, tmp_path / "all.png")))
    assert joined.shape == (8, 8, 3)
    assert joined[:4].max() == 20
    assert joined[4:].max() == 30


@pytest.mark.slow
@pytest.mark.render
def test_the_real_stages_fit_together(tmp_path: Path) -> None:
    config = QuickstartConfig(output_dir=tmp_path / "run", episodes=1, steps=2, eval_episodes=3)
    result = module.quickstart(config)
    assert [task["task"] for task in result["tasks"]] == list(module.TASKS)
    assert result["checkpoint"]["training_seed"] == 0
    assert (tmp_path / "run" / "filmstrip.png").is_file()
    assert "<video" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads(json.dumps(result)) == result
