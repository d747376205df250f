"""The state of a MuJoCo simulation as one array: all that its next step depends on, bit for bit.

That is time, positions, velocities, activations, controls, applied forces, mocap bodies and the solver's
first guess. What MuJoCo derives from them, such as where geoms are, is for the caller to bring up to date.
"""

import mujoco
import numpy as np

WHOLE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def save(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return the state, one-dimensional."""
    state = np.empty(mujoco.mj_stateSize(model, WHOLE))
    mujoco.mj_getState(model, data, state, WHOLE)
    return state


def load(model: mujoco.MjModel, data: mujoco.MjData, state: np.ndarray) -> None:
    """Set what `save` returned; derived quantities stay as they were."""
    mujoco.mj_setState(model, data, state, WHOLE)
