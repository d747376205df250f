"""What a comparison is to find out, declared in one JSON file: arms, seeds, conditions, and on which data.

    {"name": "coverage_gap",
     "data": {"left": {"env": {"task": "push", "region": "left"}, "episodes": 60},
              "anywhere": {"env": {"task": "push"}, "episodes": 0, "random_episodes": 60},
              "both": {"merge": ["left", "anywhere"]}},
     "training": {"none": {"data": "both", "dataset": {"success_only": true}, "steps": 3000},
                  "latent": {"data": "both", "policy": {"imagination": "latent", "world_model": true}}},
     "arms": {"none": {"checkpoint": "none"},
              "plan": {"checkpoint": "latent", "policy": {"mode": "plan"}}},
     "conditions": {"right": {"task": "push", "region": "right"}},
     "training_seeds": [0, 1, 2], "episodes": 200, "first_environment_seed": 300000,
     "comparisons": [["plan", "none"]]}

`data` takes the flags of `embodied collect`, or a `root` that exists, or data sets to `merge`; `training` the
flags of `embodied train`, of our policies or LeRobot's (`"policy": {"type": "act"}`), and `start_from`, an
entry that trains a `model`, from whose checkpoint of the same seed a policy starts, and `minutes` in place of
`steps`, for arms that are to take the same time; `conditions` the flags of an environment. An arm is a
checkpoint with flags of its policy that count at run time: several arms share one checkpoint, which is
trained once per training seed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.envs.configs import EnvConfig

from embodied.config import CollectConfig, TrainConfig
from embodied.errors import UserError
from embodied.evaluation.floors import EXPERT, FLOORS
from embodied.evaluation.policy_loading import FIXED_BY_TRAINING
from embodied.flags import parse_mapping
from embodied.lerobot_plugin import SimulatedEnvConfig, require_simulated

CHOICE_DEFAULTS = {"env": "embodied_metaworld", "model": "jepa", "policy": "latent_vla"}
SET_BY_COMPARE = {
    "data": ("dataset", "json"),
    "training": ("output_dir", "seed", "resume", "json", "env", "eval_freq"),
}
"""Flags that would contradict the declaration, or change nothing that it is about."""

OF_COMPARE = ("data", "start_from", "minutes")
"""Fields of a training that are no flags of `embodied train`."""

NOT_ARMS = (EXPERT, *FLOORS)
"""Who acts in every condition beside the arms."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A data set that exists."""

    root: Path


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Several of the declaration's data sets, one after the other, as one."""

    root: Path
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A checkpoint and flags of its policy such as `--mode=plan`."""

    name: str
    checkpoint: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A declaration whose every part was found usable.

    data: by name; data_of: data set of each checkpoint; training: per checkpoint, of seed 0; minutes: those
    that a checkpoint is trained for, where they decide about its steps; starts_from: the world model's
    checkpoint, for policies that start from one; conditions: environments; episodes: per
    task, condition and training seed; comparisons: (arm, against); declared: the file's content.
    """

    name: str
    data: Mapping[str, CollectConfig | Recorded | Merged]
    data_of: Mapping[str, str]
    training: Mapping[str, TrainConfig]
    minutes: Mapping[str, float]
    starts_from: Mapping[str, str]
    arms: Mapping[str, Arm]
    conditions: Mapping[str, SimulatedEnvConfig]
    training_seeds: tuple[int, ...]
    episodes: int
    first_environment_seed: int
    comparisons: tuple[tuple[str, str], ...]
    declared: Mapping[str, Any]


FIELDS: dict[str, type] = {
    "name": str,
    "data": dict,
    "training": dict,
    "arms": dict,
    "conditions": dict,
    "training_seeds": list,
    "episodes": int,
    "first_environment_seed": int,
    "comparisons": list,
}
TYPE_NAMES = {str: "text", dict: "a mapping", list: "a list", int: "an integer"}


def read_declaration(path: Path, output_dir: Path) -> Declaration:
    """Read a declaration whose data sets and checkpoints lie or will lie in `output_dir`.

    Raises UserError, a line that begins with the file and the place in it, for what cannot be used.
    """
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--declaration={path}: expected a JSON file that can be read: {error}") from error
    try:
        return _Parser(declared, output_dir).parse()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _require(is_right: bool, place: str, value: Any, expected: str) -> None:
    if not is_right:
        raise UserError(f"{place}={json.dumps(value)}: expected {expected}")


def _is_a(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _check_keys(place: str, value: Any, known: Mapping[str, bool]) -> None:
    """known: fields, and whether each is needed."""
    _require(isinstance(value, dict), place, value, "a mapping")
    for key in value:
        if key not in known:
            raise UserError(f"{place}.{key}: expected one of {', '.join(known)}")
    for key, is_needed in known.items():
        if is_needed and key not in value:
            raise UserError(f"{place}.{key} is missing")


class _Parser:
    def __init__(self, declared: Any, output_dir: Path) -> None:
        self._declared = declared
        self._output_dir = output_dir

    def parse(self) -> Declaration:
        declared = self._declared
        self._check_fields()
        data = self._each("data", self._parse_data)
        training = self._each("training", self._parse_training)
        return Declaration(
            name=declared["name"],
            data=data,
            data_of={name: value["data"] for name, value in declared["training"].items()},
            training=training,
            minutes={
                name: value["minutes"] for name, value in declared["training"].items() if "minutes" in value
            },
            starts_from={
                name: value["start_from"]
                for name, value in declared["training"].items()
                if "start_from" in value
            },
            arms=self._each("arms", self._parse_arm),
            conditions=self._each("conditions", self._parse_condition),
            training_seeds=self._parse_seeds(),
            episodes=declared["episodes"],
            first_environment_seed=declared["first_environment_seed"],
            comparisons=tuple(self._parse_comparison(pair) for pair in declared["comparisons"]),
            declared=declared,
        )

    def _check_fields(self) -> None:
        declared = self._declared
        if not isinstance(declared, dict):
            raise UserError(f"expected a mapping with {', '.join(FIELDS)}")
        for name in declared:
            if name not in FIELDS:
                raise UserError(f"{name}: expected one of {', '.join(FIELDS)}")
        for name, kind in FIELDS.items():
            if name not in declared:
                raise UserError(f"{name} is missing: expected {TYPE_NAMES[kind]}")
            _require(_is_a(declared[name], kind), name, declared[name], TYPE_NAMES[kind])
        _require(_is_file_name(declared["name"]), "name", declared["name"], "letters, digits, - and _")
        _require(declared["episodes"] >= 1, "episodes", declared["episodes"], "at least 1")
        first = declared["first_environment_seed"]
        _require(first >= 0, "first_environment_seed", first, "at least 0")

    def _each(self, part: str, parse: Callable[[str, str, Any], Any]) -> dict[str, Any]:
        """Every named entry of a part, parsed."""
        entries = self._declared[part]
        if not entries:
            raise UserError(f"{part}: expected at least one")
        for name in entries:
            if not _is_file_name(name):
                raise UserError(f"{part}.{name}: expected a name of letters, digits, - and _")
        return {name: parse(f"{part}.{name}", name, value) for name, value in entries.items()}

    # --- parts ------------------------------------------------------------------------------------

    def _parse_data(self, place: str, name: str, value: Any) -> CollectConfig | Recorded | Merged:
        _require(isinstance(value, dict), place, value, "a mapping")
        root = self._output_dir / "data" / name
        if "root" in value:
            _check_keys(place, value, {"root": True})
            _require(_is_a(value["root"], str), f"{place}.root", value["root"], "a path")
            return Recorded(root=Path(value["root"]))
        if "merge" in value:
            return Merged(root=root, parts=self._parse_merge(place, value))
        self._refuse(place, value, SET_BY_COMPARE["data"])
        config = parse_mapping(
            CollectConfig,
            {**value, "dataset": {"root": str(root)}},
            source=place,
            choice_defaults=CHOICE_DEFAULTS,
        )
        self._simulated(place, config.env)
        return config

    def _parse_merge(self, place: str, value: Any) -> tuple[str, ...]:
        _check_keys(place, value, {"merge": True})
        parts, known = value["merge"], [n for n, v in self._declared["data"].items() if "merge" not in v]
        is_right = isinstance(parts, list) and len(parts) > 1 and all(part in known for part in parts)
        _require(is_right, f"{place}.merge", parts, f"two or more of {', '.join(known)}")
        return tuple(parts)

    def _parse_training(self, place: str, name: str, value: Any) -> TrainConfig:
        _require(isinstance(value, dict), place, value, "a mapping")
        self._refuse(place, value, SET_BY_COMPARE["training"])
        known = list(self._declared["data"])
        _require(value.get("data") in known, f"{place}.data", value.get("data"), f"one of {', '.join(known)}")
        start, models = value.get("start_from"), self._checkpoints(of_models=True)
        is_right = start is None or start in models
        _require(is_right, f"{place}.start_from", start, f"one that trains a model, {', '.join(models)}")
        minutes = value.get("minutes", 1)
        is_right = (_is_a(minutes, int) or _is_a(minutes, float)) and minutes > 0
        is_right = is_right and not {"minutes", "steps"} <= set(value)
        _require(is_right, f"{place}.minutes", minutes, "a number above 0, and no steps beside it")
        return self._training_config(place, name, value)

    def _training_config(self, place: str, name: str, value: Mapping[str, Any]) -> TrainConfig:
        flags = {key: part for key, part in value.items() if key not in OF_COMPARE}
        dataset = flags.get("dataset", {})
        _require(isinstance(dataset, dict), f"{place}.dataset", dataset, "a mapping")
        self._refuse(f"{place}.dataset", dataset, ("root",))
        flags["dataset"] = {**dataset, "root": str(self._root(value["data"]))}
        flags["output_dir"] = str(training_folder(self._output_dir, name, 0))
        return parse_mapping(TrainConfig, flags, source=place, choice_defaults=CHOICE_DEFAULTS)

    def _checkpoints(self, *, of_models: bool) -> list[str]:
        declared = self._declared["training"].items()
        return [
            name for name, value in declared if isinstance(value, dict) and ("model" in value) == of_models
        ]

    def _root(self, data: str) -> Path:
        declared = self._declared["data"][data]
        return Path(declared["root"]) if "root" in declared else self._output_dir / "data" / data

    def _parse_arm(self, place: str, name: str, value: Any) -> Arm:
        _require(name not in NOT_ARMS, place, value, f"another name than {', '.join(NOT_ARMS)}")
        _check_keys(place, value, {"checkpoint": True, "policy": False})
        checkpoint, policy = value["checkpoint"], value.get("policy", {})
        training, known = self._declared["training"], self._checkpoints(of_models=False)
        _require(checkpoint in known, f"{place}.checkpoint", checkpoint, f"one of {', '.join(known)}")
        _require(isinstance(policy, dict), f"{place}.policy", policy, "a mapping")
        self._refuse(f"{place}.policy", policy, ("type", "device", *FIXED_BY_TRAINING))
        trained = training[checkpoint]
        together = {**trained, "policy": {**trained.get("policy", {}), **policy}}
        self._training_config(place, checkpoint, together)  # refuses flags that the policy would refuse
        texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in policy.items()}
        return Arm(
            name=name,
            checkpoint=checkpoint,
            overrides=tuple(f"--{key}={text}" for key, text in texts.items()),
        )

    def _parse_condition(self, place: str, name: str, value: Any) -> SimulatedEnvConfig:
        found = parse_mapping(_Condition, {"env": value}, source=place, choice_defaults=CHOICE_DEFAULTS)
        return self._simulated(place, found.env)

    def _simulated(self, place: str, env: Any) -> SimulatedEnvConfig:
        try:
            return require_simulated(env)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    def _parse_seeds(self) -> tuple[int, ...]:
        seeds = self._declared["training_seeds"]
        is_right = bool(seeds) and all(_is_a(seed, int) and seed >= 0 for seed in seeds)
        is_right = is_right and len(set(seeds)) == len(seeds)
        _require(is_right, "training_seeds", seeds, "integers from 0 on, each once")
        return tuple(seeds)

    def _parse_comparison(self, pair: Any) -> tuple[str, str]:
        arms = list(self._declared["arms"])
        is_right = isinstance(pair, list) and len(pair) == 2 and all(arm in arms for arm in pair)
        _require(is_right and pair[0] != pair[1], "comparisons", pair, f"[arm, against] of {', '.join(arms)}")
        return pair[0], pair[1]

    def _refuse(self, place: str, value: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for name in names:
            if name in value:
                raise UserError(f"{place}.{name}: expected no such field: `embodied compare` sets it")


@dataclass(frozen=True, kw_only=True)
class _Condition:
    env: EnvConfig


def training_folder(output_dir: Path, checkpoint: str, seed: int) -> Path:
    """Where a checkpoint of one training seed lies."""
    return output_dir / "training" / f"{checkpoint}-{seed}"


def _is_file_name(name: str) -> bool:
    return bool(name) and all(letter.isalnum() or letter in "-_" for letter in name)
