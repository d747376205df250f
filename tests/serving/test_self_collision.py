from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.profiles import PROFILES, RobotProfile
from embodied.serving.safety import SafetyFilter
from embodied.serving.self_collision import MujocoCollisions

# Two fingers of 2 cm radius slide towards each other from 10 cm left and right; a ball lies on the way.
MODEL = """
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1" pos="0 0 -0.015"/>
    <body name="hand">
      <body name="left" pos="-0.1 0 0"><joint name="left" type="slide" axis="1 0 0" range="0 0.2"/>
        <geom size="0.02"/></body>
      <body name="right" pos="0.1 0 0"><joint name="right" type="slide" axis="1 0 0" range="-0.2 0"/>
        <geom size="0.02"/></body>
    </body>
    <body name="ball" pos="-0.1 0.05 0"><freejoint/><geom size="0.04"/></body>
  </worldbody>
</mujoco>
"""


def profile(folder: Path, **changes) -> RobotProfile:
    (folder / "hand.xml").write_text(MODEL)
    two = {
        "names": ("left.pos", "right.pos"),
        "units": ("percent", "m"),
        "low": (0.0, -0.2),
        "high": (100.0, 0.0),
        "max_velocity": (100.0, 0.2),
        "max_acceleration": (1000.0, 2.0),
        "max_tracking_error": (50.0, 0.1),
    }
    fields = {**two, "self_collision": folder / "hand.xml", **changes}
    return replace(PROFILES["so101"], name="hand", robots=(), **fields)


def test_only_parts_of_the_robot_count_and_by_how_much(tmp_path: Path) -> None:
    check = MujocoCollisions(profile(tmp_path), clearance=0.01)
    # The ball and the floor are touched at 0, where the fingers are 16 cm apart.
    assert check.penetration(np.array([0.0, 0.0])) == 0.0
    # At 75 percent of 20 cm they are 5 - 4 = 1 cm apart, one millimetre later 9 mm.
    assert check.penetration(np.array([74.9, 0.0])) == 0.0
    assert check.penetration(np.array([75.5, 0.0])) == pytest.approx(0.001)
    assert check.penetration(np.array([75.0, -0.001])) == pytest.approx(0.001)


def test_the_filter_stops_the_fingers_before_they_meet(tmp_path: Path) -> None:
    hand = profile(tmp_path)
    check = MujocoCollisions(hand)
    filter_ = SafetyFilter(hand, collisions=check)
    position = np.zeros(2)
    filter_.start(position)
    for _ in range(60):
        command = filter_.command(np.array([100.0, -0.2]), position, 1 / 30)
        position = command.action
        assert check.penetration(position) == 0.0
    assert "self_collision" in command.flags


def test_a_missing_joint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hand\.xml: has no joint middle"):
        MujocoCollisions(profile(tmp_path, names=("left.pos", "middle.pos")))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.xml: expected an MJCF model of hand"):
        MujocoCollisions(profile(tmp_path, self_collision=tmp_path / "none.xml"))
