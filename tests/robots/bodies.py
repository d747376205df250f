"""A robot whose joints jump to their targets at once, and that draws nothing but a brightness."""

from pathlib import Path
from typing import Any

import numpy as np

from embodied.robots.body import Body, BodyConfig, BodyKind, MotorLog
from embodied.robots.faults import Faults
from tests.fake_envs import PointEnv, PointExpert

FPS = PointEnv.fps
SHAPE = (32, 32, 3)


class TargetEnv(PointEnv):
    """A point that is where the action says; beyond 1 the task is solved."""

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        self.position = np.array(action, np.float64)
        return 0.0, False, False, {"is_success": bool(self.position[0] >= 1)}


def make_target_env(task: str | None, *, cameras: tuple[str, ...], **_: Any) -> TargetEnv:
    return TargetEnv(task or "east", length=10**9, cameras=cameras)


POINT = BodyKind(make_env=make_target_env, make_expert=PointExpert)


def make_body(folder: Path, faults: Faults | None = None, cameras: tuple[str, ...] = ("corner",)) -> Body:
    """A body of `sim_point`, which has to be in BODIES, at time 0, standing at (0, 0.07)."""
    height, width, _ = SHAPE
    config = BodyConfig(
        robot="sim_point", cameras=cameras, width=width, height=height, seed=7, faults=faults or Faults()
    )
    log = MotorLog(folder / "motors.jsonl")
    try:
        return Body(config, log, now=0.0)
    except ValueError:
        log.close()
        raise
