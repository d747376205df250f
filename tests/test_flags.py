"""Flags become nested dataclasses; every mistake is one line that names the value and what was expected."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import draccus
import pytest

from embodied.errors import UserError
from embodied.flags import UNLESS, format_flags, list_flags, parse_flags, parse_mapping, split_args


@dataclass
class Shape(draccus.ChoiceRegistry):
    name: str = "shape"


@Shape.register_subclass("circle")
@dataclass
class Circle(Shape):
    radius: float = 1.0

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError(f"--shape.radius={self.radius}: expected a positive number\nand a second line")


@Shape.register_subclass("square")
@dataclass
class Square(Shape):
    side: int = 2


@dataclass(frozen=True, kw_only=True)
class Store:
    root: Path
    weights: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    low: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    store: Store
    shape: Shape
    extra: Shape | None = None
    limits: Limits = field(default_factory=Limits)
    steps: int = 10
    resume: bool = False
    label: str | None = None
    mode: Literal["fast", "slow"] = "fast"
    episodes: list[int] | None = None


DEFAULTS = {"shape": "circle", "extra": "square"}


def parse(*args: str) -> Any:
    return parse_flags(Run, ["--store.root=/data", *args], choice_defaults=DEFAULTS)


def refusal(*args: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_given_keeps_its_default() -> None:
    assert parse() == Run(store=Store(root=Path("/data")), shape=Circle(radius=1.0))


def test_nested_values_are_decoded_by_type() -> None:
    run = parse("--steps=3", "--limits.low=1e-3", "--store.weights={a: 1, b: 0.5}", "--episodes=[0, 2]")
    assert (run.steps, run.limits.low, run.episodes) == (3, 0.001, [0, 2])
    assert run.store.weights == {"a": 1.0, "b": 0.5}


def test_text_stays_as_typed_where_yaml_would_read_something_else() -> None:
    assert parse("--label=on").label == "on"
    assert parse("--label=open: the door").label == "open: the door"
    assert parse("--label=null").label is None


@pytest.mark.parametrize("given", [["--resume"], ["--resume=true"], ["--resume", "true"]])
def test_a_switch_may_stand_alone(given: list[str]) -> None:
    assert parse(*given, "--steps", "4") == parse("--resume=true", "--steps=4")


def test_the_last_of_a_repeated_flag_counts() -> None:
    assert split_args(["--a=1", "--b", "2", "--c", "--a=3"]) == {"a": "3", "b": "2", "c": None}


def test_a_choice_brings_its_own_flags() -> None:
    assert parse("--shape.type=square", "--shape.side=5").shape == Square(side=5)


def test_an_optional_choice_takes_its_default_type_when_its_flags_are_used() -> None:
    assert parse().extra is None
    assert parse("--extra.side=7").extra == Square(side=7)


def test_an_unknown_flag_is_answered_with_the_nearest() -> None:
    assert refusal("--step=3") == "--step is no flag here: expected --steps"
    assert refusal("--rot=x") == "--rot is no flag here: expected --store.root"
    assert refusal("--zzz=x") == "--zzz is no flag here: expected one of those that --help lists"


def test_a_flag_of_another_choice_is_unknown() -> None:
    assert "--shape.side is no flag here" in refusal("--shape.type=circle", "--shape.side=3")


def test_an_unknown_choice_is_answered_with_the_known() -> None:
    assert refusal("--shape.type=blob") == "--shape.type=blob: expected one of circle, square"
    assert refusal("--mode=medium") == "--mode=medium: expected one of fast, slow"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--steps=abc", "an integer"),
        ("--steps=1.5", "an integer"),
        ("--steps=true", "an integer"),
        ("--limits.low=high", "a number"),
        ("--resume=perhaps", "true or false"),
        ("--episodes=3", "a list such as [1, 2] or null"),
        ("--episodes=[", "a list such as [1, 2] or null"),
        ("--store.weights=3", "a mapping such as {name: value} or null"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_was_expected(flag: str, expected: str) -> None:
    assert refusal(flag) == f"{flag}: expected {expected}"


def test_a_flag_without_its_value_is_named() -> None:
    assert refusal("--steps") == "--steps has no value: expected an integer"


def test_a_missing_flag_is_named() -> None:
    with pytest.raises(UserError, match=r"^--store.root is missing: expected a path$"):
        parse_flags(Run, [], choice_defaults=DEFAULTS)


def test_a_word_among_the_flags_is_named() -> None:
    with pytest.raises(UserError, match=r"^reach: expected a flag such as --name=value$"):
        parse_flags(Run, ["reach"], choice_defaults=DEFAULTS)


def test_the_first_line_of_what_a_class_refuses_is_kept() -> None:
    assert refusal("--shape.radius=-1") == "--shape.radius=-1.0: expected a positive number"


def test_help_lists_each_flag_with_its_default() -> None:
    text = format_flags(list_flags(Run, {}, choice_defaults=DEFAULTS), width=16)
    assert "  --store.root     a path; required\n" in text
    assert "  --steps          an integer; default 10\n" in text
    assert "  --shape.radius   a number; default 1.0\n" in text


def test_a_file_gives_what_the_flags_do_not(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "steps: 5\nresume: true\nlabel: null\nepisodes: [1]\nextra: null\n"
        "shape: {type: square, side: 9}\nstore: {root: /file, weights: {a: 1e-3}}\n"
    )
    run = parse_flags(Run, [f"--config_path={path}", "--steps=6"], choice_defaults=DEFAULTS)
    store = Store(root=Path("/file"), weights={"a": 0.001})
    assert run == Run(store=store, shape=Square(side=9), steps=6, resume=True, episodes=[1])


@dataclass(frozen=True, kw_only=True)
class Either:
    shape: Shape | None = field(default=None, metadata={UNLESS: "extra"})
    extra: Shape | None = None


def test_one_of_two_is_filled_unless_the_other_is_named() -> None:
    def fill(*args: str) -> Either:
        return parse_flags(Either, args, choice_defaults=DEFAULTS)

    assert fill() == Either(shape=Circle())
    assert fill("--shape.radius=2") == Either(shape=Circle(radius=2.0))
    assert fill("--extra.side=3") == Either(extra=Square(side=3))
    assert fill("--extra.side=3", "--shape.type=circle") == Either(shape=Circle(), extra=Square(side=3))
    names = [flag.name for flag in list_flags(Either, {}, choice_defaults=DEFAULTS)]
    assert names == ["shape.type", "shape.name", "shape.radius", "extra.type"]


def test_a_world_model_survives_its_file_and_no_policy_is_made_up(tmp_path: Path) -> None:
    from embodied.config import DatasetConfig, TrainConfig
    from embodied.training.world_models import JEPAModelConfig
    from world_models.jepa import LossWeights

    config = TrainConfig(
        model=JEPAModelConfig(history=3, actions=False, loss_weights=LossWeights(sigreg=0.1)),
        dataset=DatasetConfig(root=Path("data")),
        output_dir=Path("runs/a"),
    )
    path = tmp_path / "train_config.json"
    path.write_text(json.dumps(draccus.encode(config)))
    assert parse_flags(TrainConfig, ["--config_path", str(path)]) == config


def test_neither_policy_nor_world_model_is_refused() -> None:
    from embodied.config import DatasetConfig, TrainConfig

    with pytest.raises(UserError, match="neither is given: expected one of them"):
        TrainConfig(dataset=DatasetConfig(root=Path("data")), output_dir=Path("runs/a"))


def test_a_training_configuration_survives_its_file(tmp_path: Path) -> None:
    from embodied.config import DatasetConfig, TrainConfig
    from embodied.lerobot_plugin import EmbodiedMetaworldEnv
    from policies.latent_vla import LatentVLAConfig

    config = TrainConfig(
        policy=LatentVLAConfig(dim=64, device="cpu"),
        dataset=DatasetConfig(root=Path("data"), task_weights={"reach a goal": 2.0}),
        output_dir=Path("runs/a"),
        env=EmbodiedMetaworldEnv(task="reach,push", goal_color="1,0,0"),
        eval_freq=10,
    )
    path = tmp_path / "train_config.json"
    path.write_text(json.dumps(draccus.encode(config)))
    assert parse_flags(TrainConfig, ["--config_path", str(path)]) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepz: 5", "--stepz is no flag here: expected --steps"),
        ("shape: {type: blob}", "--shape.type=blob: expected one of circle, square"),
        ("store: 3", "expected a mapping for store."),
        ("shape: 3", "expected a mapping for shape."),
        ("steps: [", "expected a JSON or YAML file that can be read"),
    ],
)
def test_mistakes_in_a_file_are_named(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    assert named in refusal(f"--config_path={path}")


def test_a_missing_file_is_named() -> None:
    assert refusal("--config_path=no.json").startswith("--config_path=no.json: expected")


def test_a_mapping_is_read_like_a_file() -> None:
    data = {"shape": {"type": "square", "side": 3}, "store": {"root": "a"}, "episodes": [1, 2]}
    run = parse_mapping(Run, data, source="place", choice_defaults=DEFAULTS)
    assert run == Run(store=Store(root=Path("a")), shape=Square(side=3), episodes=[1, 2])


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"stepz": 5}, "place: --stepz is no flag here: expected --steps"),
        ({"store": 3}, "place: expected a mapping for store."),
        (3, "place: expected a mapping for the whole file"),
        ({}, "place: --store.root is missing: expected a path"),
    ],
)
def test_mistakes_in_a_mapping_name_its_place(data: Any, line: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_mapping(Run, data, source="place", choice_defaults=DEFAULTS)
    assert str(raised.value) == line
