import inspect
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from embodied.errors import UserError
from embodied.serving.profiles import PROFILES, find_profile
from envs.aloha import HIGHEST, LOWEST, AlohaEnv
from envs.metaworld import MetaworldEnv

SO101 = PROFILES["so101"]


def test_joints_are_those_of_lerobots_follower_in_its_order() -> None:
    from lerobot.robots.so_follower import SO101Follower

    # Made without its motors' driver, it could be asked.
    motors = re.findall(r'"(\w+)": Motor\(', inspect.getsource(SO101Follower.__init__))
    assert tuple(f"{motor}.pos" for motor in motors) == SO101.names
    assert find_profile("so101_follower") is SO101


@pytest.mark.parametrize(("profile", "env"), [("aloha", AlohaEnv), ("metaworld", MetaworldEnv)])
def test_profiles_of_simulators_name_their_actions_and_rate(profile: str, env: type) -> None:
    PROFILES[profile].check_names(env.action_names, env.__name__)
    assert PROFILES[profile].fps == env.fps


def test_the_ranges_of_aloha_are_those_of_the_simulator() -> None:
    assert PROFILES["aloha"].low == LOWEST * 2
    assert PROFILES["aloha"].high == HIGHEST * 2


def test_a_robot_without_a_profile_is_refused() -> None:
    with pytest.raises(UserError, match="units and limits are unknown, so it does not move"):
        find_profile("hope_jr")


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(UserError, match=r"shoulder_pan\.pos in 'ticks': expected one of rad"):
        replace(SO101, units=("ticks", *SO101.units[1:]))


@pytest.mark.parametrize("value", [math.nan, 0.0, -1.0])
def test_a_limit_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(UserError, match=r"max_velocity of gripper\.pos"):
        replace(SO101, max_velocity=(*SO101.max_velocity[:5], value))


def test_a_missing_number_is_refused() -> None:
    with pytest.raises(UserError, match="5 values in low: expected 6"):
        replace(SO101, low=SO101.low[:5])


def test_joints_in_another_order_are_named() -> None:
    swapped = (SO101.names[1], SO101.names[0], *SO101.names[2:])
    with pytest.raises(UserError, match="policy: action 0 is shoulder_lift: expected shoulder_pan"):
        SO101.check_names(swapped, "policy")


def test_a_joint_too_few_is_refused() -> None:
    with pytest.raises(UserError, match="policy: 5 actions: expected the 6"):
        SO101.check_names(SO101.names[:5], "policy")


def test_a_profile_can_be_given_as_a_file(tmp_path: Path) -> None:
    mine = replace(SO101, name="mine", robots=(), max_velocity=(90.0,) * 6, self_collision=None)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(asdict(mine)).replace("Infinity", '"inf"'))
    assert find_profile("hope_jr", str(path)) == mine


def test_a_misspelt_field_of_a_profile_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"speed": 1}')
    with pytest.raises(UserError, match="speed"):
        find_profile("hope_jr", str(path))
