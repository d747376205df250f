"""LeRobot imports the module named like this distribution, which registers all that is ours."""

import embodied.lerobot_plugin  # noqa: F401
