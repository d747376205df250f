"""The simulated robots as LeRobot's robots: what a policy, a recorder or a control loop drives."""

import subprocess
from typing import Any

import numpy as np
from lerobot.robots import Robot
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

from embodied.errors import UserError
from embodied.robots.body import joint_names, make_env
from embodied.robots.cable import CableError
from embodied.robots.client import SHUT_DOWN_SECONDS, RobotCable, is_listening, start_robot
from embodied.robots.devices.configs import SimAlohaConfig, SimRobotConfig, SimSO101Config
from embodied.robots.faults import Faults
from embodied.robots.process import DRIVER
from embodied.robots.sensors import Reading


class SimRobot(Robot):
    """A robot whose process lives on, and holds, when this client dies.

    `connect` starts the process, or takes over one that runs without a driver, as after a broken connection;
    `disconnect` ends it if this object has started it. Numbers are in the units of the robot's environment.
    """

    config_class = SimRobotConfig
    name = "sim_robot"

    def __init__(self, config: SimRobotConfig) -> None:
        """Describe the robot; nothing starts yet."""
        super().__init__(config)
        self.config = config
        env = make_env(config.body)
        self._task = env.task
        self._names = joint_names(env)
        self.cameras = {camera: (config.height, config.width, 3) for camera in env.cameras}
        """Shapes of the pictures, by the cameras' names: LeRobot counts them."""
        self.is_solved = False
        """Whether the task was solved at the last observation."""
        self._cable: RobotCable | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def observation_features(self) -> dict[str, Any]:
        """Joints, each a float, and pictures, each by its shape."""
        return {**dict.fromkeys(self._names, float), **self.cameras}

    @property
    def action_features(self) -> dict[str, Any]:
        """Joints, each a float."""
        return dict.fromkeys(self._names, float)

    @property
    def is_connected(self) -> bool:
        """Whether the cable is plugged in; a call that finds it broken says so too."""
        return self._cable is not None

    @property
    def is_calibrated(self) -> bool:
        """Always: a simulated arm knows where it is."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Plug in the cable, after starting the robot's process if there is none.

        Raises:
            DeviceAlreadyConnectedError: called twice.
            DeviceNotConnectedError: the robot does not start, or refuses.
            UserError: a robot with another task or other cameras runs at this port.
        """
        if self.is_connected:
            raise DeviceAlreadyConnectedError(f"{self} is already connected.")
        config = self.config.process
        try:
            if not is_listening(config.port):
                self._reap()
                self._process = start_robot(config)
            cable = RobotCable(config.port, DRIVER)
        except CableError as error:
            raise DeviceNotConnectedError(str(error)) from None
        found = {name: cable.description[name] for name in ("robot", "task", "cameras")}
        cameras = {name: list(shape) for name, shape in self.cameras.items()}
        expected = {"robot": self.config.type, "task": self._task, "cameras": cameras}
        for name, value in expected.items():
            if found[name] != value:
                cable.close()
                raise UserError(
                    f"--robot.port={config.port}: a robot with {name} {found[name]}: expected {value}"
                )
        self._cable = cable

    def calibrate(self) -> None:
        """Do nothing: there is nothing to calibrate."""

    def configure(self) -> None:
        """Do nothing: there is nothing to set."""

    def get_observation(self) -> dict[str, Any]:
        """Return joints as floats and pictures (H, W, 3) uint8, as the sensors have them."""
        reading = self.read()
        self.is_solved = reading.is_success
        joints = {name: float(value) for name, value in zip(self._names, reading.state, strict=True)}
        return {**joints, **reading.pictures}

    def read(self) -> Reading:
        """Return the same with its tick and time, whether the robot holds, and whether the task is solved."""
        try:
            return self._plugged().observe()
        except CableError as error:
            raise self._lost(error) from None

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Send targets of all joints to the motors; returns them.

        Raises:
            DeviceNotConnectedError: the cable is broken.
            ValueError: a joint is missing.
        """
        missing = [name for name in self._names if name not in action]
        if missing:
            raise ValueError(f"action without {missing[0]}: expected {', '.join(self._names)}")
        target = np.array([float(action[name]) for name in self._names])
        try:
            self._plugged().command(target)
        except CableError as error:
            raise self._lost(error) from None
        return {name: float(value) for name, value in zip(self._names, target, strict=True)}

    def reset_scene(self, seed: int) -> None:
        """Begin a new episode: the scene of a seed, the arm in its start pose."""
        try:
            self._plugged().reset(seed)
        except CableError as error:
            raise self._lost(error) from None

    def inject(self, faults: Faults) -> None:
        """Have these faults from now on, instead of those before."""
        try:
            self._plugged().inject(faults)
        except CableError as error:
            raise self._lost(error) from None

    def disconnect(self) -> None:
        """Pull the cable; end the process if this object has started it."""
        cable, self._cable = self._cable, None
        if cable is None:
            raise DeviceNotConnectedError(f"{self} is not connected.")
        if self._process is not None:
            try:
                cable.shut_down()
            except CableError:
                self._process.terminate()
        cable.close()
        self._reap()

    def _reap(self) -> None:
        """Wait for a process that has ended or been told to."""
        if self._process is not None:
            try:
                self._process.wait(SHUT_DOWN_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _plugged(self) -> RobotCable:
        if self._cable is None:
            raise DeviceNotConnectedError(f"{self} is not connected. Run `.connect()` first.")
        return self._cable

    def _lost(self, error: CableError) -> DeviceNotConnectedError:
        if self._cable is not None:
            self._cable.close()
            self._cable = None
        return DeviceNotConnectedError(str(error))


class SimSO101(SimRobot):
    """An SO-101-sized arm: five joints in degrees and a gripper from 0 closed to 100 open."""

    config_class = SimSO101Config
    name = "sim_so101"


class SimAloha(SimRobot):
    """ALOHA's two arms: per arm six joints in radians and a gripper from 0 closed to 1 open."""

    config_class = SimAlohaConfig
    name = "sim_aloha"
