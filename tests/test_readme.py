"""The README says what the files under results/ say, and those say where they come from."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from embodied.readme_tables import (
    bench_table,
    evaluation_table,
    looking_table,
    markdown,
    task_table,
    training_table,
)
from embodied.verbs import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = sorted((ROOT / "results").glob("*.json"))


def script():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "scripts" / "readme_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_equals_its_results() -> None:
    assert script().render(README) == README


def test_every_table_of_figures_names_its_results() -> None:
    """Or is marked as what others have published."""
    lines = README.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("|") and not lines[i - 1].startswith("|")]
    unmarked = [lines[i] for i in heads if re.search(r"\d", "".join(lines[i + 2 : i + 3]))]
    marks = ("<!-- results/", "<!-- published -->")
    assert [line for line in unmarked if not lines[lines.index(line) - 1].startswith(marks)] == []


def test_a_marked_table_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    result = {"ours": 1000.0, "peer": 50.0, "ratio": 20.0, "unit": "frames/s"}
    (tmp_path / "results/a.json").write_text(json.dumps(result))
    text = "before\n\n<!-- results/a.json: bench -->\n| old |\n| --- |\n\nafter\n"
    assert script().render(text, tmp_path) == (
        "before\n\n<!-- results/a.json: bench -->\n"
        "| measured | ours | peer | ratio |\n| --- | --- | --- | --- |\n| frames/s | 1,000 | 50 | 20.0 |\n"
        "\nafter\n"
    )


def test_seeds_of_an_evaluation_stand_side_by_side() -> None:
    def result(seed: int, successes: int) -> dict:
        row = {"task": "reach", "successes": successes, "episodes": 10, "success_rate": successes / 10}
        floor = {"tasks": [{"task": "reach", "success_rate": 0.1}]}
        return {"checkpoint": {"training_seed": seed}, "tasks": [row], "floors": {"random": floor}}

    head, row = evaluation_table([result(0, 5), result(1, 10)])
    assert head == ["task", "seed 0", "seed 1", "all", "95 % interval", "random"]
    assert row == ["reach", "50 %", "100 %", "75 %", "53 % to 89 %", "10 %"]


def test_arms_of_the_first_condition_stand_side_by_side_task_by_task() -> None:
    def rate(condition: str, arm: str, rates: list[float]) -> dict:
        tasks = [{"task": name, "success_rate": rate} for name, rate in zip(("a", "b"), rates, strict=True)]
        return {"condition": condition, "arm": arm, "tasks": tasks}

    rates = [rate("told", "noop", [0, 0]), rate("told", "ours", [1, 0.5]), rate("untold", "ours", [0, 0])]
    assert task_table([{"rates": rates}]) == [
        ["task", "no-op", "ours"],
        ["a", "0 %", "100 %"],
        ["b", "0 %", "50 %"],
    ]


def test_what_trainings_took_stands_in_a_line_for_each_checkpoint() -> None:
    one = {"checkpoint": "ours", "parameters": 5_480_000, "steps": 3600, "samples": 230_400, "seconds": 90.0}
    table = training_table([{"trainings": [one, one | {"seconds": 120.0}, one | {"checkpoint": "act"}]}])
    assert table[1:] == [
        ["ours", "5.5M", "3,600", "230,400", "1.5, 2.0"],
        ["act", "5.5M", "3,600", "230,400", "1.5"],
    ]


def test_looks_of_several_policies_stand_side_by_side() -> None:
    def result(name: str, share: float) -> dict:
        return {
            "checkpoint": {"path": f"runs/x/training/{name}/checkpoints/000010"},
            "share": share,
            "interval": [share - 0.1, share + 0.1],
            "other_pictures": {"share": 0.0, "interval": [-0.1, 0.1]},
            "instructions": {"go": share},
        }

    assert looking_table([result("ours-0", 0.5), result("act-0", 0.25)]) == [
        ["held-out demonstrations", "ours-0", "act-0"],
        ["all", "0.50 (0.40 to 0.60)", "0.25 (0.15 to 0.35)"],
        ["with another episode's pictures", "0.00 (-0.10 to 0.10)", "0.00 (-0.10 to 0.10)"],
        ["“go”", "0.50", "0.25"],
    ]


def test_a_table_has_a_rule_below_its_header() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert bench_table([])[0] == ["measured", "ours", "peer", "ratio"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_every_result_says_where_it_comes_from(path: Path) -> None:
    result = json.loads(path.read_text())
    assert {"date", "commit", "machine", "seeds", "command"} <= set(result)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
    assert result["command"]


@pytest.mark.parametrize("path", [ROOT / "README.md", *RESULTS], ids=lambda path: path.name)
def test_nothing_shown_names_a_place_on_somebodys_machine(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(root|home|work|tmp|Users)/", path.read_text())


def test_every_command_of_the_readme_exists() -> None:
    commands = re.findall(r"^embodied (bench \w+|\w+) --", README, re.MULTILINE)
    assert commands
    assert set(commands) <= set(COMMANDS)


def test_the_two_commands_of_the_readme_exist() -> None:
    for name in ("quickstart.sh", "test.sh"):
        assert f"bash scripts/{name}" in README
        assert (ROOT / "scripts" / name).is_file()
