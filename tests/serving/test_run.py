"""The whole of `embodied run` on the simulated arm, with a policy in a process that gets killed."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.cli import main
from embodied.errors import UserError
from embodied.flags import parse_flags
from embodied.robots.body import read_motor_log
from embodied.robots.devices import SimSO101, SimSO101Config
from embodied.serving import run as run_module
from embodied.serving.inference import Target
from embodied.serving.local import LocalPolicy
from embodied.serving.profiles import PROFILES, find_profile
from embodied.serving.run import robot_specification, run
from embodied.serving.run_config import RunConfig
from embodied.serving.specification import Specification, from_plain, mismatch, robot_unit, to_plain
from tests.serving.conftest import Running

FLAGS = [
    "--robot.type=sim_so101",
    "--task=wave",
    "--policy.path=none",
    "--robot.width=32",
    "--robot.height=24",
]


def config(*flags: str) -> RunConfig:
    return parse_flags(RunConfig, [*FLAGS, *flags])


def policy_for(robot: Specification) -> dict[str, Any]:
    plain = to_plain(robot)
    return plain | {"chunk_size": 20, "n_action_steps": 10, "modes": ["reactive"], "rtc": True}


class Policies:
    """Starts waving policies for the run under test, and knows the one that lives."""

    def __init__(self) -> None:
        self.started: list[LocalPolicy] = []

    def connector(self, config: RunConfig, offers: Specification) -> Any:
        target = Target(
            function="waving_runner:waving",
            arguments={"specification": policy_for(offers)},
        )
        return partial(self.start, target, offers)

    def start(self, target: Target, offers: Specification) -> LocalPolicy:
        self.started.append(LocalPolicy(target, robot=offers))
        return self.started[-1]


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> Policies:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    found = Policies()
    monkeypatch.setattr(run_module, "_connector", found.connector)
    return found


def states(episode: dict[str, Any]) -> list[str]:
    return [event["state"] for event in episode["events"]]


@pytest.mark.slow
@pytest.mark.render
def test_killed_in_mid_episode_it_holds_and_goes_on_with_a_new_process(
    policies: Policies, tmp_path: Path
) -> None:
    def kill() -> None:
        while not policies.started:
            time.sleep(0.05)
        time.sleep(4.0)
        os.kill(policies.started[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    log, data = tmp_path / "motors.jsonl", tmp_path / "data"
    flags = [f"--robot.motor_log={log}", f"--record={data}", "--seconds=15", f"--robot.port=t{os.getpid()}"]
    result = run(config(*flags))
    killer.join()
    (episode,) = result["episodes"]
    found = states(episode)
    assert found.index("hold") < len(found) - 1
    assert found[found.index("hold") + 1 :].count("run") >= 1
    assert (episode["outcome"], episode["success"]) == ("interrupted", False)
    assert len(policies.started) == 2
    rows = [row for row in read_motor_log(log) if row["event"] == "tick"]
    targets = np.array([row["target"] for row in rows if row["source"] == "command"])
    so101 = PROFILES["so101"]
    assert len(targets) > 300
    assert (np.abs(np.diff(targets, axis=0)) <= np.array(so101.max_velocity) / 30 * 1.6).all()
    assert np.ptp(targets[:, 0]) > 10

    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("local/run", root=data)
    assert dataset.num_episodes == 1
    assert dataset.num_frames == pytest.approx(450, abs=45)
    assert dataset[0]["behaviour"] == "policy_interrupted"
    assert not dataset[0]["next.success"]
    assert dataset[0]["action"].shape == (6,)


@pytest.mark.slow
@pytest.mark.render
def test_it_goes_on_when_the_inference_of_its_server_dies(
    serving: Callable[..., Running], tmp_path: Path
) -> None:
    robot = SimSO101(SimSO101Config(width=32, height=24))
    specification = policy_for(robot_specification(robot, PROFILES["so101"]))
    target = Target(function="waving_runner:waving", arguments={"specification": specification})
    server = serving(target)
    url = f"ws://localhost:{server.port}"

    def pull_the_plug() -> None:
        time.sleep(6.0)
        os.kill(server.server.inference.pid, signal.SIGKILL)

    puller = threading.Thread(target=pull_the_plug)
    puller.start()
    log = tmp_path / "motors.jsonl"
    flags = [flag for flag in FLAGS if not flag.startswith("--policy")] + [
        f"--server.url={url}",
        f"--robot.motor_log={log}",
        "--seconds=15",
        f"--robot.port=s{os.getpid()}",
    ]
    result = run(parse_flags(RunConfig, flags))
    puller.join()
    (episode,) = result["episodes"]
    found = states(episode)
    assert "run" in found
    assert "stop" not in found
    assert result["decisions"] > 20
    commands = [row for row in read_motor_log(log) if row["event"] == "command"]
    targets = [row for row in commands if row["time"] > commands[-1]["time"] - 5]
    assert np.ptp([row["target"][0] for row in targets]) > 5  # it moves after the death


def test_the_robots_specification_has_the_units_and_limits_of_its_profile() -> None:
    robot = SimSO101(SimSO101Config(width=32, height=24))
    found = robot_specification(robot, PROFILES["so101"])
    assert found.robot_type == "sim_so101"
    assert found.state == found.action
    assert found.action.units == ("deg",) * 5 + ("percent",)
    assert found.cameras == {"front": (24, 32, 3), "wrist": (24, 32, 3)}
    assert found.fps == 30.0


def test_a_profile_of_another_robot_is_refused() -> None:
    robot = SimSO101(SimSO101Config())
    with pytest.raises(UserError, match="action 0 is shoulder_pan: expected left_waist"):
        robot_specification(robot, find_profile("sim_aloha"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--server.url=ws://127.0.0.1:1"], "both are given: expected one of them"),
        (["--chunking=none"], "--chunking=none: expected one of rtc, ensemble, sync"),
        (["--seconds=0"], "--seconds=0.0: expected more than 0"),
    ],
)
def test_flags_that_make_no_sense_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(*flags)


def test_an_unknown_limit_is_refused_before_anything_starts() -> None:
    with pytest.raises(UserError, match=r"--safety\.off=speed: expected one of position"):
        run(config("--safety.off=speed"))


class FakeBus:
    """LeRobot's, which needs a driver and a serial port."""

    def __init__(self, port: str, motors: dict[str, Any], calibration: dict[str, Any]) -> None:
        self.motors = motors


def test_lerobots_so101_is_the_arm_that_was_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    from lerobot.cameras.opencv import OpenCVCameraConfig
    from lerobot.robots import make_robot_from_config
    from lerobot.robots.so_follower import SO101FollowerConfig

    monkeypatch.setattr("lerobot.robots.so_follower.so_follower.FeetechMotorsBus", FakeBus)
    cameras = {
        name: OpenCVCameraConfig(index_or_path=index, width=32, height=24, fps=30)
        for index, name in enumerate(("front", "wrist"))
    }
    real = make_robot_from_config(SO101FollowerConfig(port="x", cameras=cameras))
    simulated = SimSO101(SimSO101Config(width=32, height=24))
    theirs, ours = (robot_specification(robot, PROFILES["so101"]) for robot in (real, simulated))
    assert mismatch(from_plain(policy_for(ours)), theirs) is None
    assert mismatch(from_plain(policy_for(theirs)), ours) is None
    assert robot_unit(real.name, "elbow_flex.pos") == "deg"


def test_a_driver_that_is_not_installed_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import lerobot.robots.so_follower  # noqa: F401  (registers the robot)

    def refuse(*arguments: Any, **named: Any) -> None:
        raise ImportError("'feetech-servo-sdk' is required but not installed")

    monkeypatch.setattr("lerobot.robots.so_follower.so_follower.FeetechMotorsBus", refuse)
    flags = ["--robot.type=so101_follower", "--robot.port=x", "--task=t", "--policy.path=none"]
    with pytest.raises(UserError, match="lacks the driver of this robot: 'feetech-servo-sdk' is required"):
        run(parse_flags(RunConfig, flags))


def test_degrees_are_insisted_on() -> None:
    import lerobot.robots.so_follower  # noqa: F401  (registers the robot)

    flags = ["--robot.type=so101_follower", "--robot.port=x", "--robot.use_degrees=false", "--task=t"]
    with pytest.raises(UserError, match="use_degrees=false: expected true"):
        run(parse_flags(RunConfig, [*flags, "--policy.path=none"]))


def test_the_command_line_takes_flags_of_the_robot(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--robot.type=sim_so101", "--robot.port=nobody", "--server.url=ftp://here", "--task=reach"]
    assert main(["run", *flags]) == 2
    assert "ftp://here: expected ws://HOST:PORT or wss://HOST:PORT" in capsys.readouterr().err
