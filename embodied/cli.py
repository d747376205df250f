"""`embodied <verb> --flag=value ...`: flags in, one call, result out.

Exit code: 0 on success, 2 with one line on bad input or a full disk, 130 when interrupted, 1 with a
traceback otherwise.
"""

import dataclasses
import importlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied.errors import DISK_FULL, UserError
from embodied.flags import Flag, format_flags, list_flags, parse_flags, split_args
from embodied.provenance import run_origin
from embodied.rendering_backend import use_renderer

CHOICE_DEFAULTS = {"env": "embodied_metaworld", "model": "jepa", "policy": "latent_vla"}
HELP = ("-h", "--help")
ROBOTS = (
    "lerobot.cameras.opencv",
    "lerobot.robots.bi_so_follower",
    "lerobot.robots.koch_follower",
    "lerobot.robots.so_follower",
    "embodied.robots.devices",
)
"""Their import registers robots and cameras; another robot needs a profile, and its package, anyway."""

OURS = "embodied.lerobot_plugin"
"""Registers our environments and policies; takes seconds, as it brings torch and LeRobot with it."""

OWN_PACKAGES = ("embodied", "envs", "policies", "world_models")


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What `embodied <verb>` does: `function` (module:name) is called with a `config`.

    config: a class of embodied.config, or module:name.
    """

    summary: str
    config: str
    function: str
    example: str
    renders: bool = True
    """Whether it draws even without an `--env` flag."""

    registers: tuple[str, ...] = (OURS,)
    """Modules whose import adds choices to its flags."""

    overrides: str | None = None
    """Group of flags of which all but `<group>.path` are handed on unread, as `<group>_overrides`."""

    word: str | None = None
    """Flag that a word behind the verb stands for: `embodied report RUN` is `report --run=RUN`."""

    instead: Mapping[str, "Verb"] = field(default_factory=dict)
    """What it does where a flag of some group is given, by the name of that group."""


DIAGNOSE = Verb(
    summary="what a checkpoint's world model knows, each number beside its floor",
    config="DiagnoseConfig",
    function="embodied.evaluation.diagnostics.diagnose:diagnose",
    example="--model.path=runs/mt10 --dataset.root=data/held_out --env.task=mt10",
    overrides="model",
)
VERBS = {
    "quickstart": Verb(
        summary="collect demonstrations, train a policy and evaluate it, with fixed settings",
        config="QuickstartConfig",
        function="embodied.quickstart:quickstart",
        example="--output_dir=runs/quickstart",
    ),
    "collect": Verb(
        summary="write demonstrations of scripted experts as a LeRobotDataset",
        config="CollectConfig",
        function="embodied.data.collect:collect",
        example="--env.task=mt10 --episodes=50 --dataset.root=data/mt10",
    ),
    "inspect": Verb(
        summary="what is in a LeRobotDataset, and what is wrong with it",
        config="InspectConfig",
        function="embodied.data.inspection.run:inspect_dataset",
        example="data/mt10 --json=inspection.json",
        renders=False,
        word="dataset.root",
    ),
    "train": Verb(
        summary="train a policy, or a world model (--model.type=jepa), on a LeRobotDataset",
        config="TrainConfig",
        function="embodied.training.loop:train",
        example="--policy.preset=tiny --dataset.root=data/mt10 --output_dir=runs/mt10",
        renders=False,
        registers=(OURS, "lerobot.policies", "embodied.training.world_models"),
    ),
    "evaluate": Verb(
        summary="success rates of a checkpoint, or with --model.path what its world model knows",
        config="EvaluateConfig",
        function="embodied.evaluation.evaluate:evaluate",
        example="--policy.path=runs/mt10 --env.task=mt10 --episodes=50",
        overrides="policy",
        instead={"model": DIAGNOSE},
    ),
    "compare": Verb(
        summary="arms against each other over training and environment seeds, from one declaration",
        config="CompareConfig",
        function="embodied.compare:compare",
        example="comparisons/gap.json --output_dir=runs/gap --results=results",
        registers=(OURS, "lerobot.policies", "embodied.training.world_models"),
        word="declaration",
    ),
    "imagine": Verb(
        summary="what a checkpoint imagines and foresees, beside what came, for the report",
        config="ImagineConfig",
        function="embodied.imagining.run:imagine",
        example="--policy.path=runs/mt10 --env.task=reach --output_dir=runs/mt10/imagine",
        overrides="policy",
    ),
    "run": Verb(
        summary="drive a robot, real or simulated, by a policy here or on a server, within safety limits",
        config="embodied.serving.run_config:RunConfig",
        function="embodied.serving.run:run",
        example="--robot.type=sim_so101 --server.url=ws://127.0.0.1:8000 --task='reach the red cube'",
        renders=False,
        registers=(OURS, *ROBOTS),
        overrides="policy",
    ),
    "serve": Verb(
        summary="a checkpoint or an exported policy for robots that connect",
        config="embodied.serving.config:ServeConfig",
        function="embodied.serving.serve:serve",
        example="--policy.path=runs/so101 --port=8000",
        renders=False,
        registers=(),
        overrides="policy",
    ),
    "chaos": Verb(
        summary="kill and freeze server, network, client or robot in simulation: does the arm hold in time?",
        config="embodied.chaos.config:ChaosConfig",
        function="embodied.chaos.chaos:chaos",
        example="--null --robot.type=sim_so101 --output_dir=runs/chaos",
        registers=ROBOTS,
        overrides="policy",
    ),
    "export": Verb(
        summary="a checkpoint as ONNX graphs, compared with it, that run without torch and lerobot",
        config="embodied.export.config:ExportConfig",
        function="embodied.export.export:export",
        example="--policy.path=runs/mt10 --output_dir=exported/mt10",
        renders=False,
        overrides="policy",
    ),
    "report": Verb(
        summary="one HTML file that shows a run: success, films, curves, where it comes from",
        config="ReportConfig",
        function="embodied.reporting.report:report",
        example="runs/quickstart",
        renders=False,
        word="run",
    ),
    "doctor": Verb(
        summary="what this machine offers, and what to do about each problem",
        config="DoctorConfig",
        function="embodied.doctor:doctor",
        example="--json=doctor.json",
        renders=False,
    ),
}
BENCHES = {
    "envs": Verb(
        summary="image observations per second, against LeRobot's own Meta-World environment",
        config="BenchConfig",
        function="embodied.benchmarks.envs:bench_envs",
        example="--json=results/bench_envs.json",
    ),
    "loader": Verb(
        summary="training samples per second, against LeRobotDataset with the same windows",
        config="BenchConfig",
        function="embodied.benchmarks.loader:bench_loader",
        example="--json=results/bench_loader.json",
    ),
    "infer": Verb(
        summary="milliseconds per chunk in every mode, against LeRobot's ACT at the same picture size",
        config="BenchConfig",
        function="embodied.benchmarks.infer:bench_infer",
        example="--json=results/bench_infer.json",
        renders=False,
    ),
    "train": Verb(
        summary="training samples per second, against LeRobot's ACT as it is and as large as our policy",
        config="BenchConfig",
        function="embodied.benchmarks.train:bench_train",
        example="--json=results/bench_train.json",
        renders=False,
    ),
    "plan": Verb(
        summary="milliseconds per chunk in mode plan, against how many chunks it chooses among",
        config="BenchConfig",
        function="embodied.benchmarks.plan:bench_plan",
        example="--json=results/bench_plan.json",
        renders=False,
    ),
    "evaluate": Verb(
        summary="evaluation episodes per minute, against lerobot-eval with the same checkpoint and seeds",
        config="BenchConfig",
        function="embodied.benchmarks.evaluate:bench_evaluate",
        example="--json=results/bench_evaluate.json",
    ),
}
COMMANDS = VERBS | {f"bench {what}": verb for what, verb in BENCHES.items()}


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line, that of the process if `args` is None. Returns the exit code."""
    args = list(sys.argv[1:] if args is None else args)
    try:
        return _run(args)
    except KeyboardInterrupt as interruption:
        print(f"embodied: {interruption or 'interrupted'}", file=sys.stderr)
        return 130
    except ValueError as error:
        if not _is_about_input(error):
            raise
        print(f"embodied: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = error.filename or "a file could not be written"
        advice = "free some space or give another folder, then run the command again"
        print(f"embodied: {where}: {error.strerror}: {advice}", file=sys.stderr)
        return 2


def _run(args: list[str]) -> int:
    words = [arg for arg in args if arg not in HELP]
    if not words or (words == ["bench"] and words != args):
        _show(_overview())
        return 0
    name, flags = _split_command(words)
    verb = _chosen_verb(COMMANDS[name], flags)
    if words != args:
        _show(_help(name, verb, flags))
        return 0
    if verb.renders or any(flag.startswith("--env.") for flag in flags):
        use_renderer()
    with _quiet_logs():
        config = _parse(verb, flags)
    json_path: Path | None = config.json
    if json_path is not None:
        _check_writable(json_path)
    result = _load(verb.function)(config)
    if json_path is not None:
        write_result(json_path, result, command=["embodied", *args], seed=getattr(config, "seed", None))
    return 0 if result.get("ok", True) else 1


def _show(text: str) -> None:
    """Print a long text, of which a reader such as `head` may want the beginning only."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _split_command(args: list[str]) -> tuple[str, list[str]]:
    """("bench envs", flags) for `bench envs ...`, ("train", flags) for `train ...`."""
    words = 2 if args[0] == "bench" else 1
    name = " ".join(args[:words])
    if name not in COMMANDS:
        expected = [f"bench {what}" for what in BENCHES] if args[0] == "bench" else [*VERBS, "bench"]
        raise UserError(f"{name}: expected one of {', '.join(expected)}")
    return name, _word_as_flag(COMMANDS[name], args[words:])


def _chosen_verb(verb: Verb, flags: list[str]) -> Verb:
    """What a verb does with these flags."""
    for group, other in verb.instead.items():
        if any(flag.startswith(f"--{group}.") for flag in flags):
            return other
    return verb


def _word_as_flag(verb: Verb, flags: list[str]) -> list[str]:
    if verb.word is None or not flags or flags[0].startswith("--"):
        return flags
    flag = f"--{verb.word}"
    if any(other.partition("=")[0] == flag for other in flags[1:]):
        raise UserError(f"{flag} is given as well as {flags[0]}: expected one of them")
    return [f"{flag}={flags[0]}", *flags[1:]]


def _load(target: str) -> Callable[[Any], dict[str, Any]]:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def _config_class(verb: Verb) -> type:
    """The verb's configuration, once our environments and policies are registered as choices in it."""
    for module in verb.registers:
        importlib.import_module(module)
    module, _, name = verb.config.rpartition(":")
    return getattr(importlib.import_module(module or "embodied.config"), name)


def _choice_defaults(values: Mapping[str, str | None]) -> Mapping[str, str]:
    """CHOICE_DEFAULTS, but for the simulator: the one that has the tasks which are named."""
    task, plugin = values.get("env.task"), sys.modules.get(OURS)
    if task is None or plugin is None:
        return CHOICE_DEFAULTS
    return {**CHOICE_DEFAULTS, "env": plugin.simulator_type(task)}


def _parse(verb: Verb, args: Sequence[str]) -> Any:
    config_class = _config_class(verb)
    values = split_args(args)
    defaults = _choice_defaults(values)
    if verb.overrides is None:
        return parse_flags(config_class, args, choice_defaults=defaults)
    group = f"{verb.overrides}."
    flags = list_flags(config_class, values, choice_defaults=defaults, is_whole=False)
    known = {flag.name for flag in flags}
    own, handed_on = [], []
    for name, value in values.items():
        is_own = not name.startswith(group) or name in known
        text = "" if value is None else f"={value}"
        (own if is_own else handed_on).append(f"--{name if is_own else name.removeprefix(group)}{text}")
    config = parse_flags(config_class, own, choice_defaults=defaults)
    return dataclasses.replace(config, **{f"{verb.overrides}_overrides": handed_on})


def _is_about_input(error: ValueError) -> bool:
    """Whether our own code refused a value; a library's ValueError is a defect, to be seen whole."""
    if isinstance(error, UserError):
        return True
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ else []
    module = frames[-1].frame.f_globals.get("__name__", "") if frames else ""
    return module.split(".")[0] in OWN_PACKAGES


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Hold back LeRobot's remarks on configurations, so that a mistake stays one line."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _check_writable(path: Path) -> None:
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--json={path}: expected a folder that can be written: {error.strerror}") from error
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--json={path}: expected a file in a folder that can be written")


def write_result(path: Path, result: dict[str, Any], *, command: Sequence[str], seed: int | None) -> None:
    """Write `result` as one JSON object, whole or not at all, with `command` and where it comes from.

    `date`, `commit`, `machine` and `seeds` are added where `result` has no such key.
    """
    origin = run_origin(command, seeds=[] if seed is None else [seed])
    result = {**origin, **result, "command": origin["command"]}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(result, indent=2, default=_encode, allow_nan=False) + "\n")
    os.replace(partial, path)


def _encode(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"{value!r} is a {type(value).__name__}: expected numbers, text, lists and dicts in a result"
    )


def _overview() -> str:
    lines = [f"  {name:<14} {verb.summary}" for name, verb in COMMANDS.items()]
    usage = "usage: embodied COMMAND [--flag=value ...]"
    return "\n".join(
        [
            usage,
            "",
            *lines,
            "",
            "`embodied COMMAND --help` lists its flags; --config_path=FILE reads them from JSON.",
        ]
    )


def _help(name: str, verb: Verb, args: Sequence[str]) -> str:
    config_class, values = _config_class(verb), split_args(args)
    flags = list_flags(config_class, values, choice_defaults=_choice_defaults(values), is_whole=False)
    flags = [flag for flag in flags if not flag.name.endswith("_overrides")]
    word = f" {verb.word.partition('.')[0].upper()}" if verb.word else ""
    sections = [f"usage: embodied {name}{word} [--flag=value ...]\n\n{verb.summary}"]
    sections += [_section(owner, [flag for flag in flags if flag.owner is owner]) for owner in _owners(flags)]
    return "\n\n".join([*sections, f"example: embodied {name} {verb.example}"])


def _owners(flags: Sequence[Flag]) -> list[type]:
    return list(dict.fromkeys(flag.owner for flag in flags))


def _section(owner: type, flags: Sequence[Flag]) -> str:
    return f"{inspect.cleandoc(owner.__doc__ or '')}\n\n{format_flags(flags)}"


if __name__ == "__main__":
    sys.exit(main())
