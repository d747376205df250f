"""A comparison in the report and in the README: bars for all, a line for each arm."""

import re
from collections.abc import Callable

from embodied.readme_tables import comparison_table
from embodied.reporting import sections
from embodied.reporting.comparisons import comparison, comparison_lines
from embodied.reporting.run_folder import Run
from tests.reporting.conftest import comparison_result, write_comparison, write_evaluation, write_training
from tests.reporting.test_sections import text_of

MEDIA = 10**7
MakeRun = Callable[..., Run]


def test_a_comparisons_folder_holds_no_other_evaluation(make_run: MakeRun) -> None:
    run = make_run(write_comparison, lambda folder: write_training(folder / "training" / "none-0"))
    assert [found["name"] for found in run.comparisons] == ["gaps"]
    assert run.evaluations == []
    assert [one.label for one in run.trainings] == ["training/none-0"]


def test_a_comparison_alone_is_a_report(make_run: MakeRun) -> None:
    run = make_run(write_comparison)
    sections.header(run)
    assert "comparison" in [section.name for section in sections.SECTIONS if section.render(run, MEDIA)]


def test_other_runs_have_no_comparison(make_run: MakeRun) -> None:
    assert comparison(make_run(write_evaluation), MEDIA) is None


def test_expert_and_arms_have_bars_and_floors_have_marks(make_run: MakeRun) -> None:
    html = comparison(make_run(write_comparison), MEDIA)
    assert html is not None
    widths = re.findall(r'class="fill" width="([\d.]+)%', html)
    assert [float(width) for width in widths] == [20, 80, 100]
    assert html.count('class="mark floor-0" x="0.0%"') == 3
    assert "80 % 16/20" in text_of(html)
    assert "gap 2 training seeds" in text_of(html)


def test_a_table_line_says_what_sets_an_arm_apart() -> None:
    header, none, plan, expert, _ = comparison_lines(comparison_result())
    assert header[:3] == ["condition", "arm", "success"]
    assert none == ["gap", "none", "20 %", "0 to 50 %", "", "15"]
    assert plan[:3] == ["gap", "plan", "80 %"]
    # Of 10 paired episodes 6 differ, the same for both seeds: 6 of 10 drawn, plus and minus 3.
    assert plan[4] == "+60.0 over none (30.0 to 90.0)"
    assert expert[-2:] == ["", ""]


def test_the_readme_takes_comparisons_one_below_the_other() -> None:
    one = comparison_lines(comparison_result())
    assert comparison_table([comparison_result(), comparison_result()]) == [*one, *one[1:]]
