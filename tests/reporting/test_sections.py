"""What each section shows of a run, and that nothing in a run can become markup."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from embodied.reporting import sections
from embodied.reporting.curves import training
from embodied.reporting.origins import provenance
from embodied.reporting.run_folder import Run, read_run
from embodied.reporting.sections import SECTIONS, headline, missing_lines
from tests.reporting.conftest import (
    CHECKPOINT,
    HARMFUL,
    evaluation,
    policy_rows,
    write_evaluation,
    write_json,
    write_rows,
    write_training,
)

MEDIA = 10**7
MakeRun = Callable[..., Run]


class Text(HTMLParser):
    """The words of a page, and the tags that it consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).replace("\N{NO-BREAK SPACE}", " ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


@pytest.fixture(scope="module")
def run(quickstart_folder: Path) -> Run:
    return read_run(quickstart_folder)


def text_of(html: str | None) -> str:
    assert html is not None
    return Text(html).text


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_an_instruction_with_a_script_in_it_stays_text(run: Run, section: sections.Section) -> None:
    page = Text(section.render(run, MEDIA) or "")
    assert "script" not in page.tags
    if section.name in ("success", "rollouts", "settings"):
        assert HARMFUL in page.text


def test_the_headline_is_the_mean_over_tasks_with_its_interval() -> None:
    found = headline(sections.Evaluation(label="a", result=evaluation()))
    assert found["rate"] == pytest.approx(1 / 3)
    assert (found["low"], found["high"]) == pytest.approx((0.0968, 0.7000), abs=1e-3)  # Wilson, 2 of 6
    assert found["floors"] == {"random": 0.0, "noop": 0.0}


def test_tasks_of_different_size_have_no_common_interval() -> None:
    result = evaluation()
    result["tasks"][0]["episodes"] = 30
    found = headline(sections.Evaluation(label="a", result=result))
    assert found["low"] is None


def test_floors_keep_their_order_whatever_the_file_says() -> None:
    result = evaluation()
    result["floors"] = dict(sorted(result["floors"].items()))
    assert list(headline(sections.Evaluation(label="a", result=result))["floors"]) == ["random", "noop"]


def test_the_header_says_what_when_and_how_well(run: Run) -> None:
    text = text_of(sections.header(run))
    for part in ("quickstart", "2026-01-31", "latent_vla · 2 tasks", "33 % success", "10 to 70 %"):
        assert part in text
    assert "2 of 6 episodes random 0 %, no-op 0 %" in text
    assert "training steps 200 training time 29 min parameters 3.9M demonstrations 20" in text


def test_bars_are_as_long_as_the_rates(run: Run) -> None:
    html = sections.success(run, MEDIA)
    widths = re.findall(r'class="fill" width="([\d.]+)%', html)
    assert [float(width) for width in widths] == pytest.approx([200 / 3, 0])
    assert "67 % 2/3 21 to 94 %" in text_of(html)
    assert "random actions" in text_of(html)


def test_several_checkpoints_stand_side_by_side_under_their_seeds(make_run: MakeRun) -> None:
    other = {**CHECKPOINT, "sha256": "0" * 64, "training_seed": 4}
    found = make_run(
        lambda folder: write_json(folder / "1.json", evaluation()),
        lambda folder: write_json(folder / "2.json", evaluation(checkpoint=other)),
    )
    html = sections.success(found, MEDIA)
    assert html.count('class="fill"') == 4
    assert "training seed 3 training seed 4" in text_of(html)
    assert text_of(sections.header(found)).count("33 % success") == 2


def test_rollouts_show_success_and_failure_with_their_instruction(run: Run) -> None:
    html = sections.rollouts(run, MEDIA)
    assert html.count("<video ") == 4
    text = text_of(html)
    assert "✗ failure east “go east” seed 7 · 50 steps" in text
    assert "✓ success east “go east” seed 8 · 10 steps" in text


def test_rollouts_name_the_sub_goals_where_rows_have_them(make_run: MakeRun) -> None:
    rows = policy_rows()
    rows[0]["stages"] = [[0, "move <b>east"], [12, "stop"]]
    found = make_run(write_evaluation, lambda folder: write_rows(rows, folder / "episodes.jsonl"))
    assert "step 0 move <b>east step 12 stop" in text_of(sections.rollouts(found, MEDIA))


def test_rollouts_say_what_the_budget_left_out(run: Run) -> None:
    text = text_of(sections.rollouts(run, 0))
    assert "Within 0.0 MB for pictures: 0 shown as filmstrips, 4 left out." in text


def test_training_draws_every_quantity_once(run: Run) -> None:
    html = training(run, MEDIA)
    titles = re.findall(r"<h3>([^<]*)", html)
    assert [title.strip() for title in titles] == [
        "Success during training",
        "Loss",
        "Gradient norm",
        "Learning rate",
        "Training speed",
        "Time spent waiting for data",
    ]
    assert "mean east west" in text_of(html)


def test_runs_without_a_quantity_keep_their_colours(make_run: MakeRun) -> None:
    def second(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "lr": 0.1}\n')

    found = make_run(lambda f: second(f / "a"), lambda f: write_training(f / "b"))
    loss = re.search(r'aria-label="Loss.*?</svg>', training(found, MEDIA), re.DOTALL).group()
    assert re.findall(r'class="series (s\d)"', loss) == ["s1"]


def test_a_null_in_the_log_is_a_gap(make_run: MakeRun) -> None:
    def gap(folder: Path) -> None:
        folder.mkdir(parents=True)
        lines = ['{"step": 1, "loss": 4.0}', '{"step": 2, "loss": null}', '{"step": 3, "loss": 2.0}']
        (folder / "metrics.jsonl").write_text("\n".join(lines))

    assert 'aria-label="Loss: 4 at step 1, 2 at step 3"' in training(make_run(gap), MEDIA)


def test_decision_times_are_those_alone_and_per_task(run: Run) -> None:
    text = text_of(sections.latency(run, MEDIA))
    assert "one environment alone 17.4 ms p95 21.9 ms" in text
    assert "east 15 ms p95 20 ms" in text


def test_the_episode_table_pairs_the_policy_with_the_floors(run: Run) -> None:
    text = text_of(sections.episodes(run, MEDIA))
    assert "6 episodes task seed outcome steps random no-op east 7 ✗ failure 50 ✗ ✗ east 8 ✓ success" in text


def test_demonstrations_are_counted(run: Run) -> None:
    text = text_of(sections.data(run, MEDIA))
    assert "20 episodes, 1,234 frames, recorded in 45 s." in text
    assert "east expert 20/20 22 1,234" in text


def test_provenance_names_commands_hashes_and_seeds_once(run: Run) -> None:
    text = text_of(provenance(run, MEDIA))
    assert text.count("embodied train --steps=200") == 1
    assert "embodied evaluate --policy.path=runs/a --env.task=east" in text
    assert "/opt/env" not in text
    assert text.count("5a1e" * 16) == text.count("da7a" * 16) == text.count("c0ffee" * 6) == 1
    assert "training seed 3 environment seeds 7 to 9" in text
    assert "A Processor, 2 cores" in text
    assert "python 3.12.1, torch 2.11.0" in text


def test_every_setting_has_a_line(run: Run) -> None:
    text = text_of(sections.settings(run, MEDIA))
    assert "optimizer.lr 0.001" in text
    assert "policy.type latent_vla" in text


def test_what_a_run_lacks_is_one_line_each(make_run: MakeRun) -> None:
    found = make_run(write_training)
    lines = missing_lines((section, section.render(found, MEDIA)) for section in SECTIONS)
    assert len(lines) == 4
    assert lines[0] == "No evaluation."


@pytest.mark.parametrize("write", [write_training, write_evaluation])
def test_no_part_needs_another(make_run: MakeRun, write: Callable[[Path], None]) -> None:
    found = make_run(write)
    sections.header(found)
    assert any(section.render(found, MEDIA) for section in SECTIONS)
