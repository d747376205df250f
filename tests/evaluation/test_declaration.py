"""Declarations: what a good one means, and one line about each mistake in a bad one."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lerobot.policies.act.configuration_act import ACTConfig

import embodied.training.world_models  # noqa: F401  (registers the world models)
from embodied.config import CollectConfig
from embodied.errors import UserError
from embodied.evaluation.declaration import Arm, Declaration, Merged, Recorded, read_declaration
from tests.fake_envs import PointEnvConfig

SCRIPTS = Path(__file__).parents[2] / "scripts"

POINT = {"type": "fake_point"}
LATENT = {"imagination": "latent", "world_model": True, "device": "cpu"}
GOOD: dict[str, Any] = {
    "name": "gap",
    "data": {
        "left": {"env": POINT, "episodes": 3},
        "old": {"root": "data/old"},
        "both": {"merge": ["left", "old"]},
    },
    "training": {
        "none": {"data": "left", "dataset": {"success_only": True}, "policy": {"device": "cpu"}, "steps": 7},
        "latent": {"data": "both", "policy": LATENT, "optimizer": {"lr": 0.1}, "start_from": "world"},
        "peer": {
            "data": "old",
            "policy": {"type": "act", "chunk_size": 3, "n_action_steps": 2},
            "minutes": 2.5,
        },
        "world": {"data": "old", "model": {"device": "cpu"}},
    },
    "arms": {
        "none": {"checkpoint": "none"},
        "plan": {"checkpoint": "latent", "policy": {"mode": "plan", "candidates": 4}},
    },
    "conditions": {"right": {**POINT, "task": "east,west"}},
    "training_seeds": [0, 1],
    "episodes": 5,
    "first_environment_seed": 100,
    "comparisons": [["plan", "none"]],
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Declaration]:
    """Reads a declaration with this content; what it makes goes to `out`."""

    def read(content: Any) -> Declaration:
        path = tmp_path / "gap.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_declaration(path, Path("out"))

    return read


def test_a_declaration_becomes_the_configurations_of_its_stages(read: Callable) -> None:
    found = read(GOOD)
    left = found.data["left"]
    assert isinstance(left, CollectConfig)
    assert (left.episodes, left.dataset.root) == (3, Path("out/data/left"))
    assert found.data["old"] == Recorded(root=Path("data/old"))
    assert found.data["both"] == Merged(root=Path("out/data/both"), parts=("left", "old"))
    none, latent = found.training["none"], found.training["latent"]
    assert (none.steps, none.dataset.success_only, none.dataset.root) == (7, True, Path("out/data/left"))
    assert (latent.optimizer.lr, latent.dataset.root) == (0.1, Path("out/data/both"))
    assert latent.policy.imagination == "latent"
    peer = found.training["peer"].policy
    assert isinstance(peer, ACTConfig)
    assert peer.chunk_size == 3
    assert found.minutes == {"peer": 2.5}
    assert found.data_of == {"none": "left", "latent": "both", "peer": "old", "world": "old"}
    assert found.starts_from == {"latent": "world"}
    assert found.training["world"].policy is None
    assert found.arms["plan"] == Arm(
        name="plan", checkpoint="latent", overrides=("--mode=plan", "--candidates=4")
    )
    assert isinstance(found.conditions["right"], PointEnvConfig)
    assert found.conditions["right"].tasks == ("east", "west")
    assert (found.training_seeds, found.comparisons) == ((0, 1), (("plan", "none"),))


def test_a_data_set_that_exists_stays_where_it_is(read: Callable) -> None:
    content = copy.deepcopy(GOOD)
    content["training"]["none"]["data"] = "old"
    assert read(content).training["none"].dataset.root == Path("data/old")


REMOVED = object()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("name", "a/b", 'name="a/b": expected letters'),
        ("name", REMOVED, "name is missing: expected text"),
        ("seeds", [1], "seeds: expected one of name, data"),
        ("episodes", 0, "episodes=0: expected at least 1"),
        ("episodes", True, "episodes=true: expected an integer"),
        ("first_environment_seed", -1, "first_environment_seed=-1: expected at least 0"),
        ("training_seeds", [0, 0], "training_seeds=[0, 0]: expected integers from 0 on, each once"),
        ("training_seeds", [], "training_seeds=[]: expected"),
        ("conditions", {}, "conditions: expected at least one"),
        ("conditions.right.tsk", "east", "conditions.right: --env.tsk is no flag here: expected --env.task"),
        ("conditions.right.width", 0, "conditions.right: --env.width=0: expected at least 1"),
        ("conditions.right.type", "pusht", "conditions.right: --env.type=pusht: expected an environment of"),
        ("data.left.episodes", -1, "data.left: --episodes=-1: expected at least 0"),
        ("data.left.dataset", {}, "data.left.dataset: expected no such field"),
        ("data.left.env.type", "x", "data.left: --env.type=x: expected one of"),
        ("data.old.root", 3, "data.old.root=3: expected a path"),
        ("data.old.episodes", 3, "data.old.episodes: expected one of root"),
        ("data.both.merge", ["left"], 'data.both.merge=["left"]: expected two or more of left, old'),
        ("data.both.merge", ["left", "both"], "data.both.merge="),
        ("data.a/b", {"root": "x"}, "data.a/b: expected a name of letters"),
        ("training.none.data", "right", 'training.none.data="right": expected one of left, old, both'),
        ("training.none.steps", 0, "training.none: --steps=0: expected at least 1"),
        ("training.none.stepz", 3, "training.none: --stepz is no flag here: expected --steps"),
        ("training.none.seed", 3, "training.none.seed: expected no such field"),
        ("training.none.dataset.root", "x", "training.none.dataset.root: expected no such field"),
        ("training.none.dataset.success_only", 3, "training.none: --dataset.success_only=3: expected true"),
        ("training.none.policy.preset", "huge", "training.none: --policy.preset=huge: expected one of"),
        ("training.none.policy", 3, "training.none: expected a mapping for policy."),
        ("training.none.minutes", 5, "training.none.minutes=5: expected a number above 0, and no steps"),
        ("training.latent.minutes", 0, "training.latent.minutes=0: expected a number above 0"),
        ("training.latent.minutes", "long", 'training.latent.minutes="long": expected a number above 0'),
        ("training.none.policy", {"type": "act", "chunk": 3}, "training.none: --policy.chunk is no flag"),
        ("arms.none.checkpoint", "plan", 'arms.none.checkpoint="plan": expected one of none, latent, peer'),
        ("arms.none.mode", "plan", "arms.none.mode: expected one of checkpoint, policy"),
        ("arms.none", {}, "arms.none.checkpoint is missing"),
        ("arms.expert", {"checkpoint": "none"}, "expected another name than expert, random, noop"),
        ("arms.none.policy", {"mode": "plan"}, "arms.none: --policy.mode=plan: expected reactive"),
        ("arms.plan.policy.mod", "x", "arms.plan: --policy.mod is no flag here: expected --policy.mode"),
        ("arms.plan.policy.intervention", "swap", "arms.plan: --policy.intervention=swap: expected one of"),
        ("arms.plan.policy.relative_actions", True, "arms.plan.policy.relative_actions: expected no such"),
        ("arms.none.checkpoint", "world", 'arms.none.checkpoint="world": expected one of none, latent, peer'),
        ("training.none.start_from", "latent", 'training.none.start_from="latent": expected one that trains'),
        (
            "comparisons",
            [["plan", "noone"]],
            'comparisons=["plan", "noone"]: expected [arm, against] of none',
        ),
        ("comparisons", [["plan", "plan"]], 'comparisons=["plan", "plan"]: expected [arm, against]'),
    ],
)
def test_each_mistake_is_one_line_that_names_the_place(
    place: str, value: Any, message: str, read: Callable
) -> None:
    content = copy.deepcopy(GOOD)
    *parents, name = place.split(".")
    part = content
    for parent in parents:
        part = part.setdefault(parent, {})
    if value is REMOVED:
        del part[name]
    else:
        part[name] = value
    with pytest.raises(UserError) as raised:
        read(content)
    line = str(raised.value)
    assert message in line
    assert "gap.json: " in line
    assert "\n" not in line


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_file_without_a_declaration_is_refused(content: str, read: Callable) -> None:
    with pytest.raises(UserError, match=r"gap\.json.*: expected a"):
        read(content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--declaration=.*nowhere\.json: expected a JSON file"):
        read_declaration(tmp_path / "nowhere.json", tmp_path)


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.json")), ids=lambda path: path.name)
def test_every_declaration_among_the_scripts_can_be_used(path: Path, tmp_path: Path) -> None:
    declaration = read_declaration(path, tmp_path)
    assert declaration.name == path.stem
    assert len(declaration.training_seeds) >= 3
