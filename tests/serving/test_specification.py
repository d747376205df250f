import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embodied.errors import UserError
from embodied.manifest import file_sha256, write_manifest
from embodied.serving.specification import (
    Signals,
    Specification,
    from_checkpoint,
    from_plain,
    mismatch,
    robot_unit,
    to_plain,
)
from tests.serving.specifications import JOINTS, POLICY, ROBOT, SIGNALS, with_signals


def test_a_policy_fits_a_robot_that_has_a_camera_more() -> None:
    assert mismatch(POLICY, ROBOT) is None


def test_the_real_arm_and_its_simulation_are_one_robot_to_a_policy() -> None:
    assert mismatch(POLICY, replace(ROBOT, robot_type="so101_follower")) is None
    bare = replace(SIGNALS, names=("shoulder_pan", "elbow_flex", "gripper"))
    assert mismatch(POLICY, replace(ROBOT, state=bare, action=bare)) is None


SWAPPED = (JOINTS[1], JOINTS[0], JOINTS[2])
RADIANS = (math.radians(110), math.radians(100), 100.0)


@pytest.mark.parametrize(
    ("policy", "robot", "line"),
    [
        (with_signals("action", names=SWAPPED), ROBOT, "action: the policy's names are elbow_flex.pos, sho"),
        (with_signals("state", names=SWAPPED), ROBOT, "state: the policy's names are elbow_flex.pos"),
        (
            with_signals("action", units=("rad", "rad", "percent")),
            ROBOT,
            "unit of action shoulder_pan.pos: the policy's is rad, the robot's deg",
        ),
        (replace(POLICY, fps=15.0), ROBOT, "fps: the policy's is 15, the robot's 30"),
        (
            replace(POLICY, cameras={"top": (4, 6, 3)}),
            ROBOT,
            "camera top: the policy needs it, the robot has front, wrist, spare",
        ),
        (
            replace(POLICY, cameras={"front": (6, 4, 3)}),
            ROBOT,
            "camera front: the policy needs 6x4 pixels, the robot has 4x6",
        ),
        (replace(POLICY, robot_type="aloha"), ROBOT, "robot_type: the policy's is aloha, expected sim_so101"),
        (replace(POLICY, protocol=2), ROBOT, "protocol: the policy's is 2, expected 1"),
        (POLICY, replace(ROBOT, checkpoint="cd"), f"checkpoint: the policy's is {'ab' * 32}, expected cd"),
        (POLICY, replace(ROBOT, modes=("plan",)), "mode plan: the policy has reactive, imagine"),
        (POLICY, replace(ROBOT, chunk_size=6), "chunk_size: the policy's is 5, the robot's 6"),
        (replace(POLICY, rtc=False), replace(ROBOT, rtc=True), "rtc: the policy cannot continue a chunk"),
    ],
)
def test_what_differs_is_named(policy: Specification, robot: Specification, line: str) -> None:
    found = mismatch(policy, robot)
    assert found is not None
    assert found.startswith(line)


def test_degrees_declared_as_radians_are_found_by_their_range() -> None:
    units = ("rad", "rad", "percent")
    in_radians = replace(SIGNALS, units=units, high=RADIANS, low=(-RADIANS[0], -RADIANS[1], 0.0))
    robot = replace(ROBOT, state=in_radians, action=in_radians)
    assert mismatch(replace(POLICY, state=in_radians, action=in_radians), robot) is None
    declared = replace(POLICY, state=in_radians, action=replace(SIGNALS, units=units))
    found = mismatch(declared, robot)
    assert found is not None
    assert found.startswith("range of action shoulder_pan.pos: the policy's is -110 to 110, the robot's -1.9")


def test_a_unit_that_nobody_declared_never_fits() -> None:
    unknown = replace(SIGNALS, units=("unknown",) * 3)
    both = {"state": SIGNALS, "action": unknown}
    found = mismatch(replace(POLICY, **both), replace(ROBOT, **both))
    assert found == "unit of action shoulder_pan.pos: the policy's is unknown, the robot's unknown"


def test_plain_maps_keep_everything_through_json() -> None:
    endless = with_signals("state", low=(-math.inf, 0.0, 0.0), high=(math.inf, 1.0, 2.0))
    assert from_plain(json.loads(json.dumps(to_plain(endless), allow_nan=False))) == endless


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", "1"),
        ("protocol", True),
        ("fps", 0),
        ("fps", float("nan")),
        ("cameras", {"front": [4, 6]}),
        ("cameras", {"front": [4, -6, 3]}),
        ("cameras", {5: [4, 6, 3]}),
        ("cameras", []),
        ("state", None),
        ("state", {"names": ["a"], "units": ["deg"], "low": [0]}),
        ("action", {"names": ["a"], "units": ["deg"], "low": [1], "high": [0]}),
        ("action", {"names": ["a"], "units": ["deg"], "low": [float("nan")], "high": [0]}),
        ("action", {"names": ["a"], "units": ["inch"], "low": [0], "high": [1]}),
        ("action", {"names": ["a", "a"], "units": ["m", "m"], "low": [0, 0], "high": [1, 1]}),
        ("chunk_size", 10**9),
        ("n_action_steps", 6),
        ("modes", "reactive"),
        ("rtc", 1),
        ("surprise", 1),
    ],
)
def test_a_plain_map_with_a_wrong_value_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError):
        from_plain({**to_plain(POLICY), key: value})


def test_a_plain_map_without_a_value_is_refused() -> None:
    plain = to_plain(POLICY)
    del plain["state"]
    with pytest.raises(UserError, match="expected action, cameras"):
        from_plain(plain)


@pytest.mark.parametrize(
    ("robot_type", "name", "unit"),
    [
        ("sim_so101", "gripper.pos", "percent"),
        ("sim_so101", "wrist_roll.pos", "deg"),
        ("metaworld_sawyer", "hand_x", "m"),
        ("metaworld_sawyer", "hand_dx", "cm/step"),
        ("metaworld_sawyer", "gripper_opening", "share"),
        ("aloha_sim", "left_gripper", "share"),
        ("somebody's", "gripper.pos", "unknown"),
    ],
)
def test_units_of_known_robots(robot_type: str, name: str, unit: str) -> None:
    assert robot_unit(robot_type, name) == unit


NOTED = {
    "robot_type": "sim_so101",
    "rate_hz": 30,
    "observation": {
        "observation.images.front": {"kind": "VISUAL", "shape": [3, 4, 6]},
        "observation.state": {"kind": "STATE", "shape": [2], "names": {"motors": ["a.pos", "gripper.pos"]}},
    },
    "action": {
        "action": {
            "kind": "ACTION",
            "shape": [2],
            "names": ["a.pos", "gripper.pos"],
            "min": [-1.0, 0.0],
            "max": [1.0, 100.0],
        }
    },
    "instructions": [],
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = {"type": "latent_vla", "chunk_size": 8, "n_action_steps": 4, "action_head": "flow"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "world_model": True, "imagination": "none"}))
    (tmp_path / "specification.json").write_text(json.dumps(NOTED))
    write_manifest(tmp_path)
    return tmp_path


def test_a_checkpoint_tells_its_specification(checkpoint: Path) -> None:
    units, names = ("deg", "percent"), ("a.pos", "gripper.pos")
    endless = {"low": (-math.inf, -math.inf), "high": (math.inf, math.inf)}
    assert from_checkpoint(checkpoint) == Specification(
        checkpoint=file_sha256(checkpoint / "MANIFEST.json"),
        robot_type="sim_so101",
        cameras={"front": (4, 6, 3)},
        state=Signals(names=names, units=units, **endless),
        action=Signals(names=names, units=units, low=(-1.0, 0.0), high=(1.0, 100.0)),
        fps=30.0,
        chunk_size=8,
        n_action_steps=4,
        modes=("reactive", "plan"),
        rtc=True,
    )


def test_a_checkpoint_that_was_changed_tells_nothing(checkpoint: Path) -> None:
    (checkpoint / "specification.json").write_text(json.dumps(NOTED | {"rate_hz": 60}))
    with pytest.raises(UserError, match=r"specification\.json"):
        from_checkpoint(checkpoint)
