"""The command line: which verb is called with what, and how each kind of failure ends."""

import errno
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embodied import cli
from embodied.errors import UserError
from embodied.verbs import BENCHES, COMMANDS, Verb


@dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration of a verb."""

    value: int = 1
    seed: int = 7
    policy_overrides: tuple[str, ...] = ()
    json: Path | None = None


def verb_that(monkeypatch: pytest.MonkeyPatch, function: Any, **options: Any) -> None:
    """Make `embodied try` call `function`."""
    verb = Verb(summary="s", config="Config", function="m:f", example="--value=1", renders=False, **options)
    monkeypatch.setitem(COMMANDS, "try", verb)
    monkeypatch.setattr(cli, "_load", lambda target: function)
    monkeypatch.setattr(cli, "_config_class", lambda verb: Config)


def test_the_verb_gets_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    verb_that(monkeypatch, lambda config: seen.append(config) or {})
    assert cli.main(["try", "--value=5"]) == 0
    assert seen == [Config(value=5)]


def test_json_holds_the_result_and_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verb_that(
        monkeypatch, lambda config: {"answer": 42, "file": Path("a/b"), "seeds": [1, 2], "command": "x"}
    )
    path = tmp_path / "new" / "result.json"
    assert cli.main(["try", f"--json={path}"]) == 0
    result = json.loads(path.read_text())
    assert result["answer"] == 42
    assert result["file"] == "a/b"
    assert result["seeds"] == [1, 2]
    assert result["command"] == f"embodied try --json={path}"
    assert {"date", "commit", "machine"} <= set(result)
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


def test_the_seed_of_the_configuration_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    verb_that(monkeypatch, lambda config: {})
    cli.main(["try", f"--json={tmp_path / 'r.json'}"])
    assert json.loads((tmp_path / "r.json").read_text())["seeds"] == [7]


def test_a_result_that_is_not_ok_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(monkeypatch, lambda config: {"ok": False})
    assert cli.main(["try"]) == 1


def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(config: Config) -> dict[str, Any]:
        raise UserError("--value=1: expected 2\nmore")

    verb_that(monkeypatch, refuse)
    assert cli.main(["try"]) == 2
    assert capsys.readouterr().err == "embodied: --value=1: expected 2\n"


def test_a_value_refused_by_an_environment_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from envs.metaworld_tasks import parse_tasks

    verb_that(monkeypatch, lambda config: parse_tasks("reech"))
    assert cli.main(["try"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "reech" in error
    assert "reach" in error


def test_a_value_error_of_a_library_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(monkeypatch, lambda config: json.loads("{"))
    with pytest.raises(json.JSONDecodeError):
        cli.main(["try"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fill(config: Config) -> dict[str, Any]:
        raise OSError(number, "no room", "data/episode.parquet")

    verb_that(monkeypatch, fill)
    assert cli.main(["try"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("embodied: data/episode.parquet: no room: free some space")
    assert error.count("\n") == 1


def test_another_error_of_the_system_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Config) -> dict[str, Any]:
        raise OSError(errno.EIO, "broken disk")

    verb_that(monkeypatch, fail)
    with pytest.raises(OSError, match="broken disk"):
        cli.main(["try"])


def test_an_interruption_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(config: Config) -> dict[str, Any]:
        raise KeyboardInterrupt("resume with --resume")

    verb_that(monkeypatch, interrupt)
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "embodied: resume with --resume\n"


def test_flags_of_the_policy_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Checkpoint:
        path: Path

    @dataclass(frozen=True, kw_only=True)
    class WithPolicy(Config):
        policy: Checkpoint

    seen = []
    verb_that(monkeypatch, lambda config: seen.append(config) or {}, overrides="policy")
    monkeypatch.setattr(cli, "_config_class", lambda verb: WithPolicy)
    cli.main(["try", "--policy.path=runs/a", "--policy.euler_steps=2", "--policy.compile"])
    assert seen[0].policy.path == Path("runs/a")
    assert seen[0].policy_overrides == ["--euler_steps=2", "--compile"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (
            ["trian"],
            "quickstart, collect, inspect, train, evaluate, compare, imagine, run, serve, chaos, export, "
            "report, doctor, bench",
        ),
        (
            ["bench"],
            ", ".join(f"bench {what}" for what in BENCHES),
        ),
        (
            ["bench", "speed"],
            ", ".join(f"bench {what}" for what in BENCHES),
        ),
    ],
)
def test_an_unknown_command_is_answered_with_the_known(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    assert capsys.readouterr().err == f"embodied: {' '.join(args)}: expected one of {expected}\n"


def test_a_folder_is_refused_as_json_file_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    verb_that(monkeypatch, lambda config: pytest.fail("the verb ran"))
    assert cli.main(["try", f"--json={tmp_path}"]) == 2


def test_every_verb_of_the_command_line_has_a_configuration_with_json() -> None:
    for verb in COMMANDS.values():
        assert "json" in cli._config_class(verb).__dataclass_fields__


def test_the_overview_needs_neither_torch_nor_a_simulator() -> None:
    program = (
        "import sys; from embodied.cli import main; code = main(['--help']);"
        "heavy = {'torch', 'lerobot', 'mujoco', 'gymnasium'} & set(sys.modules);"
        "sys.exit(code or len(heavy))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert child.returncode == 0
    assert "quickstart" in child.stdout


def test_libraries_add_nothing_to_the_line() -> None:
    line = ["train", "--dataset.root=x", "--output_dir=y", "--policy.preset=huge"]
    child = subprocess.run([sys.executable, "-m", "embodied.cli", *line], capture_output=True, text=True)
    assert child.returncode == 2
    assert child.stderr.startswith("embodied: --policy.preset=huge: expected one of")
    assert child.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["collect", "inspect", "train", "evaluate", "bench envs"])
def test_help_of_a_verb_lists_its_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert f"example: embodied {verb} " in text
    assert "--policy_overrides" not in text


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("collect --env.task=reech --dataset.root=x", "reech"),
        ("collect --env.task=reach", "--dataset.root"),
        ("collect --env.tsk=reach --dataset.root=x", "--env.task"),
        ("collect --env.type=metawrld --dataset.root=x", "embodied_metaworld"),
        ("collect --dataset.root=x --episodes=-1", "--episodes=-1"),
        ("train --dataset.root=x --output_dir=y --steps=many", "--steps=many"),
        ("train --dataset.root=x --output_dir=y --policy.preset=huge", "--policy.preset=huge"),
        ("train --dataset.root=x --output_dir=y --policy.type=latent", "latent_vla"),
        ("evaluate --env.task=reach", "--policy.path"),
        ("evaluate --policy.path=/nowhere --env.task=reach", "/nowhere"),
    ],
)
def test_each_mistake_on_a_real_command_line_is_one_line(
    line: str, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert names in error


def test_a_reader_who_has_seen_enough_of_the_help_gets_no_traceback() -> None:
    """The pipe is closed before anything is written."""
    command = [sys.executable, "-m", "embodied.cli", "train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        complaints = child.stderr.read()
        assert child.wait(timeout=120) == 0, complaints
    assert "Traceback" not in complaints
