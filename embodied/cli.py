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
from pathlib import Path
from typing import Any

from embodied.errors import DISK_FULL, UserError
from embodied.flags import Flag, format_flags, list_flags, parse_flags, split_args
from embodied.provenance import run_origin
from embodied.rendering_backend import use_renderer
from embodied.verbs import BENCHES, COMMANDS, OURS, VERBS, Verb

CHOICE_DEFAULTS = {"env": "embodied_metaworld", "model": "jepa", "policy": "latent_vla"}
HELP = ("-h", "--help")
OWN_PACKAGES = ("embodied", "envs", "policies", "world_models")


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
