"""LeRobot-style flags (`--env.task=reach`) into nested dataclasses, and one line about each mistake.

`--config_path=FILE` takes a JSON or YAML file with the same names, nested; flags count more than the file.

draccus decodes the values. Its argparse front end is not used: it registers the flags of every known policy
and environment, answers a misspelling with pages of usage, and hides the messages of `__post_init__`.
"""

import dataclasses
import difflib
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import draccus
import yaml
from draccus.cfgparsing import parse_string
from draccus.utils import DraccusException, stringify_type

from embodied.errors import UserError

CONFIG_PATH = "config_path"
UNLESS = "unless"
"""In a field's metadata: the name of another one. The field is filled like a required one unless flags name
that other one, or it has no part in the run: `--policy` and `--model` of `embodied train`."""

TYPE_NAMES = {bool: "true or false", float: "a number", int: "an integer", Path: "a path", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One leaf of the nested configuration: dotted `name`, type `kind`, default and owning class."""

    name: str
    kind: Any
    default: Any
    owner: type

    @property
    def required(self) -> bool:
        """Whether the flag has to be given."""
        return self.default is dataclasses.MISSING


def split_args(args: Sequence[str]) -> dict[str, str | None]:
    """`--a=1 --b 2 --c` as `{"a": "1", "b": "2", "c": None}`; of a repeated flag the last counts."""
    values: dict[str, str | None] = {}
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if not arg.startswith("--"):
            raise UserError(f"{arg}: expected a flag such as --name=value")
        name, separator, value = arg[2:].partition("=")
        if not separator and rest and not rest[0].startswith("--"):
            value, separator = rest.pop(0), " "
        values[name] = value if separator else None
    return values


def parse_flags(
    config_class: type, args: Sequence[str], *, choice_defaults: Mapping[str, str] | None = None
) -> Any:
    """An instance of the dataclass `config_class` filled from `args`.

    choice_defaults: the type taken when none is given, for fields that are a choice (`policy`, `env`).

    Raises:
        UserError: unknown flag or choice, value of the wrong type, missing flag, or refused by the class.
    """
    defaults = dict(choice_defaults or {})
    values = split_args(args)
    if CONFIG_PATH in values:
        path = Path(values.pop(CONFIG_PATH) or "")
        source = f"--{CONFIG_PATH}={path}"
        values = _file_values(config_class, _read_file(path), "", defaults, source) | values
    return _from_values(config_class, values, defaults)


def parse_mapping(
    config_class: type, data: Any, *, source: str, choice_defaults: Mapping[str, str] | None = None
) -> Any:
    """An instance of the dataclass `config_class` filled from nested JSON values.

    Raises:
        UserError: as `parse_flags` does, in a line that begins with `source`.
    """
    defaults = dict(choice_defaults or {})
    try:
        values = _file_values(config_class, data, "", defaults, "")
        return _from_values(config_class, values, defaults)
    except UserError as error:
        raise UserError(f"{source}: {str(error).removeprefix(': ')}") from error


def _from_values(config_class: type, values: Mapping[str, str | None], defaults: Mapping[str, str]) -> Any:
    known = {flag.name: flag for flag in list_flags(config_class, values, choice_defaults=defaults)}
    for name in values:
        if name not in known:
            raise UserError(_unknown(name, list(known)))
    for flag in known.values():
        if flag.required and flag.name not in values:
            raise UserError(f"--{flag.name} is missing: expected {_describe(flag.kind)}")
    return _build(config_class, "", values, defaults)


def list_flags(
    config_class: type,
    values: Mapping[str, str | None],
    *,
    choice_defaults: Mapping[str, str] | None = None,
    prefix: str = "",
    is_whole: bool = True,
) -> list[Flag]:
    """Every flag of `config_class`, with the fields of the choices that `values` name and no others.

    is_whole: whether `values` has to name every choice that has no default; otherwise these are listed alone.
    """
    found: list[Flag] = []
    for field, kind, nested in _fields(config_class):
        name, default = prefix + field.name, _default(field)
        if nested is None:
            found.append(Flag(name=name, kind=kind, default=default, owner=config_class))
            continue
        is_used = _is_used(field, prefix, values)
        chosen: type | None = nested
        if _is_choice(nested):
            is_named = f"{name}.type" in values or name in (choice_defaults or {})
            is_made = is_used and (is_whole or is_named)
            chosen = _choose(nested, name, values, choice_defaults or {}) if is_made else None
            choices = Literal[tuple(sorted(nested.get_known_choices()))]  # type: ignore[valid-type]
            default_type = (choice_defaults or {}).get(name)
            found.append(Flag(name=f"{name}.type", kind=choices, default=default_type, owner=config_class))
        if chosen is not None:
            inner = list_flags(
                chosen, values, choice_defaults=choice_defaults, prefix=f"{name}.", is_whole=is_whole
            )
            found += inner if is_used else [flag for flag in inner if not flag.required]
    return found


def format_flags(flags: Sequence[Flag], width: int = 36) -> str:
    """One line per flag: its name, what it takes and its default."""
    lines = []
    for flag in flags:
        note = "required" if flag.required else f"default {_show(flag.default)}"
        lines.append(f"  {'--' + flag.name:<{width}} {_describe(flag.kind)}; {note}")
    return "\n".join(lines)


def _build(
    config_class: type, prefix: str, values: Mapping[str, str | None], defaults: Mapping[str, str]
) -> Any:
    arguments: dict[str, Any] = {}
    for field, kind, nested in _fields(config_class):
        name = prefix + field.name
        if nested is None:
            if name in values:
                arguments[field.name] = _decode(name, kind, values[name])
            continue
        if _is_used(field, prefix, values):
            chosen = _choose(nested, name, values, defaults) if _is_choice(nested) else nested
            arguments[field.name] = _build(chosen, name + ".", values, defaults)
    try:
        return config_class(**arguments)
    except ValueError as error:
        raise UserError(str(error).strip().split("\n")[0]) from error


def _read_file(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--{CONFIG_PATH}={path}: expected a JSON or YAML file that can be read") from error


def _file_values(
    config_class: type, data: Any, prefix: str, defaults: Mapping[str, str], source: str
) -> dict[str, str | None]:
    """The file's nested values under dotted names, written as they would be in flags."""
    fields = {field.name: nested for field, _, nested in _fields(config_class)}
    values: dict[str, str | None] = {}
    if not isinstance(data, dict):
        raise UserError(f"{source}: expected a mapping for {prefix or 'the whole file'}")
    for name, value in data.items():
        nested = fields.get(name)
        if nested is None:
            values[prefix + name] = value if isinstance(value, str) else json.dumps(value)
        elif value is not None:
            inner = f"{prefix}{name}"
            if _is_choice(nested) and isinstance(value, dict):
                types_given = {f"{inner}.type": value["type"]} if "type" in value else {}
                nested = _choose(nested, inner, types_given, defaults)
            values |= _file_values(nested, value, f"{inner}.", defaults, source)
    return values


def _fields(config_class: type) -> list[tuple[dataclasses.Field, Any, type | None]]:
    """(field, type, class of the nested configuration or None) for every field that `__init__` takes."""
    hints = get_type_hints(config_class)
    return [
        (field, hints[field.name], _nested_class(hints[field.name]))
        for field in dataclasses.fields(config_class)
        if field.init
    ]


def _nested_class(kind: Any) -> type | None:
    options = [option for option in _options(kind) if option is not type(None)]
    is_nested = len(options) == 1 and dataclasses.is_dataclass(options[0])
    return options[0] if is_nested and isinstance(options[0], type) else None


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _is_used(field: dataclasses.Field, prefix: str, values: Mapping[str, str | None]) -> bool:
    """Whether a nested configuration is filled, or left at its default."""

    def named(name: str) -> bool:
        return any(key.startswith(f"{prefix}{name}.") for key in values)

    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return True
    return named(field.name) or (UNLESS in field.metadata and not named(field.metadata[UNLESS]))


def _is_choice(nested: type) -> bool:
    """Whether `nested` is the base class of a registry, not one of its registered classes."""
    return issubclass(nested, draccus.ChoiceRegistry) and nested not in nested.get_known_choices().values()


def _choose(
    registry: type, name: str, values: Mapping[str, str | None], defaults: Mapping[str, str]
) -> type[Any]:
    choices = registry.get_known_choices()  # type: ignore[attr-defined]
    choice = values.get(f"{name}.type") or defaults.get(name)
    if choice is None:
        raise UserError(f"--{name}.type is missing: expected one of {', '.join(sorted(choices))}")
    if choice not in choices:
        raise UserError(f"--{name}.type={choice}: expected one of {', '.join(sorted(choices))}")
    return choices[choice]


def _decode(name: str, kind: Any, text: str | None) -> Any:
    options = _options(kind)
    if text is None:
        if bool not in options:
            raise UserError(f"--{name} has no value: expected {_describe(kind)}")
        return True
    try:
        value: Any = text
        if not {str, Path} & set(options):
            value = parse_string(text)
        elif text == "null" and type(None) in options:
            value = None
        if isinstance(value, bool) and bool not in options:
            raise TypeError(f"{value} is a bool")
        return draccus.decode(kind, value)
    except (AttributeError, DraccusException, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"--{name}={text}: expected {_describe(kind)}") from error


def _describe(kind: Any) -> str:
    options = _options(kind)
    if len(options) > 1:
        return " or ".join("null" if option is type(None) else _describe(option) for option in options)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(kind))}"
    if get_origin(kind) is list:
        return "a list such as [1, 2]"
    if get_origin(kind) is dict:
        value = get_args(kind)[1]
        if isinstance(value, type) and issubclass(value, Enum):
            return f"a mapping such as {{name: value}} with values {', '.join(item.name for item in value)}"
        return "a mapping such as {name: value}"
    return TYPE_NAMES.get(kind) or stringify_type(kind)


def _show(default: Any) -> str:
    if default is None:
        return "null"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _unknown(name: str, known: list[str]) -> str:
    last_parts = {other.split(".")[-1]: other for other in known}
    near = difflib.get_close_matches(name, known, n=1)
    near += [last_parts[part] for part in difflib.get_close_matches(name.split(".")[-1], last_parts, n=1)]
    expected = f"--{near[0]}" if near else "one of those that --help lists"
    return f"--{name} is no flag here: expected {expected}"
