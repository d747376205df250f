"""A scripted teleoperator: the expert of a simulated robot's task, who sees the simulator's state."""

from typing import Any

from lerobot.teleoperators import Teleoperator
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError

from embodied.robots.body import BODIES, BodyConfig, joint_names, make_env
from embodied.robots.cable import CableError
from embodied.robots.client import RobotCable
from embodied.robots.devices.configs import SimLeaderConfig
from embodied.robots.process import OBSERVER
from envs.simulated import Expert

# Any camera will do: the leader draws nothing.
_CAMERAS = {"sim_so101": ("front",), "sim_aloha": ("top",)}


class SimLeader(Teleoperator):
    """Says what the expert would do now. LeRobot connects leaders first, so that it plugs in when asked."""

    config_class = SimLeaderConfig
    name = "sim_leader"

    def __init__(self, config: SimLeaderConfig) -> None:
        """Describe the leader; the robot need not run yet."""
        super().__init__(config)
        self.config = config
        self._names = joint_names(make_env(BodyConfig(robot=config.robot, cameras=_CAMERAS[config.robot])))
        self._is_connected = False
        self._cable: RobotCable | None = None
        self._expert: Expert | None = None

    @property
    def action_features(self) -> dict[str, Any]:
        """Joints, each a float."""
        return dict.fromkeys(self._names, float)

    @property
    def feedback_features(self) -> dict[str, Any]:
        """None: it feels nothing."""
        return {}

    @property
    def is_connected(self) -> bool:
        """Whether `connect` was called."""
        return self._is_connected

    @property
    def is_calibrated(self) -> bool:
        """Always."""
        return True

    def connect(self, calibrate: bool = True) -> None:
        """Be ready. The cable is plugged in at the first action."""
        if self._is_connected:
            raise DeviceAlreadyConnectedError(f"{self} is already connected.")
        self._is_connected = True

    def calibrate(self) -> None:
        """Do nothing: there is nothing to calibrate."""

    def configure(self) -> None:
        """Do nothing: there is nothing to set."""

    def get_action(self) -> dict[str, Any]:
        """Return the expert's targets for the robot's present state.

        Raises:
            DeviceNotConnectedError: `connect` was not called, or there is no robot at the port.
        """
        if not self._is_connected:
            raise DeviceNotConnectedError(f"{self} is not connected. Run `.connect()` first.")
        try:
            if self._cable is None or self._expert is None:
                self._cable = RobotCable(self.config.port, OBSERVER)
                self._expert = BODIES[self.config.robot].make_expert(self._cable.description["task"])
                self._expert.reset()
            targets = self._expert.act(self._cable.privileged_state())
        except CableError as error:
            self._cable = None
            raise DeviceNotConnectedError(str(error)) from None
        return {name: float(value) for name, value in zip(self._names, targets, strict=True)}

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Do nothing: it feels nothing."""

    def disconnect(self) -> None:
        """Pull the cable."""
        if not self._is_connected:
            raise DeviceNotConnectedError(f"{self} is not connected.")
        self._is_connected = False
        if self._cable is not None:
            self._cable.close()
            self._cable = None
