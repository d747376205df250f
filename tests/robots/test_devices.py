"""The simulated robots as LeRobot finds and drives them, in real processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import draccus
import numpy as np
import pytest
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig, so_follower
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from lerobot.utils.import_utils import register_third_party_plugins

from embodied.errors import UserError
from embodied.robots.body import read_motor_log
from embodied.robots.client import is_listening
from embodied.robots.devices import SimAlohaConfig, SimLeader, SimLeaderConfig, SimSO101, SimSO101Config
from embodied.robots.faults import Faults
from envs.aloha import AlohaEnv
from envs.so101 import SO101Env

pytestmark = pytest.mark.timeout(600)
SO101_NAMES = [
    "shoulder_pan.pos",
    "shoulder_lift.pos",
    "elbow_flex.pos",
    "wrist_flex.pos",
    "wrist_roll.pos",
    "gripper.pos",
]
DRIVE = """
import sys, time
from embodied.robots.client import RobotCable, start_robot
from embodied.robots.process import DRIVER, ProcessConfig
start_robot(ProcessConfig.from_json(sys.argv[1]))
cable = RobotCable("sim_so101", DRIVER)
target = cable.observe().state
while True:
    target[0] += 0.5
    cable.command(target)
    time.sleep(1 / 30)
"""


@dataclass
class Flags:
    """As LeRobot's commands have them."""

    robot: RobotConfig
    teleop: TeleoperatorConfig


@pytest.fixture(autouse=True)
def _own_sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path_factory.mktemp("s"))
    monkeypatch.setattr("tempfile.tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Callable[..., SimSO101]]:
    """A connected arm with small pictures."""
    made: list[SimSO101] = []

    def make(**values: Any) -> SimSO101:
        config = SimSO101Config(cameras="front", width=16, height=16, motor_log=tmp_path / "log", **values)
        made.append(SimSO101(config))
        made[-1].connect()
        return made[-1]

    yield make
    for each in made:
        if each.is_connected:
            each.disconnect()
        each._reap()


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def events(path: Path, event: str) -> list[dict[str, Any]]:
    return [line for line in read_motor_log(path) if line["event"] == event]


def test_lerobot_makes_the_robots_and_their_leader_from_flags() -> None:
    register_third_party_plugins()
    robot = ["--robot.type=sim_so101", "--robot.cameras=front", "--robot.faults.frame_loss=0.25"]
    flags = draccus.parse(Flags, args=[*robot, "--teleop.type=sim_leader"])
    parsed = flags.robot
    assert isinstance(parsed, SimSO101Config)
    assert parsed.body.faults == Faults(frame_loss=0.25)
    made = make_robot_from_config(parsed)
    assert (type(made).__name__, made.name, made.robot_type) == ("SimSO101", "sim_so101", "sim_so101")
    assert list(made.action_features) == SO101_NAMES
    assert made.observation_features == {**dict.fromkeys(SO101_NAMES, float), "front": (96, 96, 3)}
    leader = make_teleoperator_from_config(flags.teleop)
    assert list(leader.action_features) == SO101_NAMES


def test_the_names_are_those_of_the_environments_and_of_lerobots_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(so_follower, "FeetechMotorsBus", SimpleNamespace)  # its driver is not installed
    real = SO101Follower(SO101FollowerConfig(port="none"))
    assert list(real.action_features) == SO101_NAMES == list(SO101Env.action_names)
    aloha = make_robot_from_config(SimAlohaConfig())
    assert list(aloha.action_features) == [f"{name}.pos" for name in AlohaEnv.action_names]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cameras": "roof"}, "camera 'roof': expected one of front"),
        ({"task": "fly"}, "task 'fly': expected one of reach-cube"),
        ({"port": "../x"}, r"--robot\.port=\.\./x: expected a short name"),
        ({"watchdog": 0.0}, r"--robot\.watchdog=0\.0: expected above 0"),
        ({"seed": -1}, r"--robot\.seed=-1: expected 0 or more"),
        ({"faults": Faults(stuck_joint="elbow")}, r"stuck_joint=elbow: expected one of shoulder_pan\.pos"),
    ],
)
def test_a_flag_that_cannot_be_used_is_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SimSO101Config(**values)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="sim_car: expected one of sim_so101, sim_aloha"):
        SimLeaderConfig(robot="sim_car")


def test_what_is_not_connected_says_so() -> None:
    arm, leader = SimSO101(SimSO101Config()), SimLeader(SimLeaderConfig())
    for call in (
        arm.get_observation,
        lambda: arm.send_action(dict.fromkeys(SO101_NAMES, 0.0)),
        arm.disconnect,
    ):
        with pytest.raises(DeviceNotConnectedError):
            call()
    for call in (leader.get_action, leader.disconnect):
        with pytest.raises(DeviceNotConnectedError):
            call()
    leader.connect()
    with pytest.raises(DeviceNotConnectedError, match="no robot answers"):
        leader.get_action()
    leader.disconnect()


@pytest.mark.render
def test_the_leader_leads_the_arm_to_the_cube(robot: Callable[..., SimSO101], tmp_path: Path) -> None:
    arm = robot()
    with pytest.raises(DeviceAlreadyConnectedError):
        arm.connect()
    leader = SimLeader(SimLeaderConfig())
    leader.connect()

    def is_there() -> bool:
        sent = arm.send_action(leader.get_action())
        assert list(sent) == SO101_NAMES
        return arm.read().is_success

    wait_for(is_there)
    observation = arm.get_observation()
    assert observation["front"].shape == (16, 16, 3)
    assert np.ptp(observation["front"]) > 30
    assert isinstance(observation["gripper.pos"], float)
    arm.reset_scene(5)
    assert not arm.read().is_success
    with pytest.raises(ValueError, match=r"action without shoulder_pan\.pos"):
        arm.send_action({"gripper.pos": 1.0})
    leader.disconnect()
    arm.disconnect()
    assert not is_listening("sim_so101")
    assert len(events(tmp_path / "log", "command")) > 5
    assert {"command", "hold"} >= {line["source"] for line in events(tmp_path / "log", "tick")}


@pytest.mark.render
def test_the_arm_holds_when_its_client_is_killed_and_the_next_client_takes_over(
    robot: Callable[..., SimSO101], tmp_path: Path
) -> None:
    """Bar 1: within 200 ms; here of the robot's own clock, between the last command and the first hold."""
    log, config = tmp_path / "log", SimSO101Config(cameras="front", width=16, height=16)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = replace(config.process, log=log).to_json()
    client = subprocess.Popen([sys.executable, "-c", DRIVE, process], env=environment)
    wait_for(lambda: log.exists() and sum(line["source"] == "command" for line in events(log, "tick")) > 3)
    client.send_signal(signal.SIGKILL)
    client.wait()
    wait_for(lambda: events(log, "tick")[-1]["source"] == "hold")
    arm = robot()
    assert arm._process is None, "another robot was started"
    held = events(log, "tick")
    last = max(line["time"] for line in held if line["source"] == "command")
    first = next(line for line in held if line["source"] == "hold" and line["time"] > last)
    assert first["tick"] - next(line["tick"] for line in held if line["time"] == last) == 1
    pan = arm.get_observation()["shoulder_pan.pos"]
    assert pan == pytest.approx(first["target"][0], abs=1.0)
    arm._plugged().shut_down()
    wait_for(lambda: not is_listening("sim_so101"))


@pytest.mark.render
def test_another_robot_at_the_port_is_refused(robot: Callable[..., SimSO101]) -> None:
    arm = robot(idle_seconds=5.0)
    arm._plugged().close()
    arm._cable = None
    other = SimSO101(SimSO101Config(cameras="front,wrist", width=16, height=16))
    with pytest.raises(UserError, match=r"--robot\.port=sim_so101: a robot with cameras"):
        other.connect()
    arm.connect()


@pytest.mark.render
def test_a_process_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = SimSO101(SimSO101Config(motor_log=tmp_path / "log"))
    arm.config.cameras = "roof"  # after the check
    with pytest.raises(DeviceNotConnectedError, match=re.escape("camera 'roof': expected one of front")):
        arm.connect()
