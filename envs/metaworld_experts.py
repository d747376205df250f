"""Scripted experts for the 50 Meta-World tasks: full state in, action out, and the sub-goal they pursue."""

import warnings

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

from envs.metaworld_stages import STAGES, StageProgress

GOAL = slice(36, 39)
# Where to aim beside the goal, in metres. Reaching: success is measured at the fingertips, 4.5 cm below the
# hand that the policy steers. Stick-pull: the policy stops short and lowers the stick out of the handle.
AIM_SHIFTS: dict[str, tuple[float, float, float]] = {
    "reach": (0.0, 0.0, 0.045),
    "reach-wall": (0.0, 0.0, 0.045),
    "stick-pull": (0.05, -0.02, 0.1),
}


class MetaworldExpert:
    """Meta-World's scripted policy of one task. Each action follows from the state alone."""

    def __init__(self, task: str) -> None:
        """Take the policy of `task`, a name of MT50."""
        self._policy = ENV_POLICY_MAP[f"{task}-v3"]()
        self._shift = np.array(AIM_SHIFTS.get(task, (0.0, 0.0, 0.0)))
        self._progress = StageProgress(STAGES[task])

    def reset(self) -> None:
        """Begin an episode."""
        self._progress.reset()

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (4,) float32 in [-1, 1], for a `MetaworldEnv.privileged_state`, (39,)."""
        seen = state.copy()  # some policies write into it
        seen[GOAL] += self._shift
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.clip(self._policy.get_action(seen), -1.0, 1.0).astype(np.float32)

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English; call it once per step of an episode."""
        return self._progress.stage(state)


def make_expert(task: str) -> MetaworldExpert:
    """Return the scripted expert of a task of MT50."""
    return MetaworldExpert(task)
