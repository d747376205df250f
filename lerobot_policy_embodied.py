"""LeRobot imports the module named like this distribution, which registers our policies and environments."""

import embodied.lerobot_plugin  # noqa: F401
