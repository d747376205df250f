"""The simulated robots and their scripted leader as LeRobot's devices.

LeRobot looks for the class `X` of a configuration `XConfig` in the package of the configuration's module.
"""

from embodied.robots.devices.configs import SimAlohaConfig, SimLeaderConfig, SimRobotConfig, SimSO101Config
from embodied.robots.devices.leader import SimLeader
from embodied.robots.devices.robots import SimAloha, SimRobot, SimSO101

__all__ = [
    "SimAloha",
    "SimAlohaConfig",
    "SimLeader",
    "SimLeaderConfig",
    "SimRobot",
    "SimRobotConfig",
    "SimSO101",
    "SimSO101Config",
]
