"""What all MuJoCo scenes have in common: their state as one array, and impossible edits of their object.

The state is all that the next step depends on, bit for bit: time, positions, velocities, activations,
controls, applied forces, mocap bodies and the solver's first guess. What MuJoCo derives from them, such as
where geoms are, is for the caller to bring up to date.
"""

import mujoco
import numpy as np

WHOLE = int(mujoco.mjtState.mjSTATE_INTEGRATION)

COLORS = (
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0),
)
CLEARLY_ANOTHER = 0.7
"""Distance in red, green and blue, each from 0 to 1, from which on a colour counts as another one."""

DISPLACEMENT = 0.12
"""An object is displaced by this much at least, in metres: about two of its widths."""


def save(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Return the state, one-dimensional."""
    state = np.empty(mujoco.mj_stateSize(model, WHOLE))
    mujoco.mj_getState(model, data, state, WHOLE)
    return state


def load(model: mujoco.MjModel, data: mujoco.MjData, state: np.ndarray) -> None:
    """Set what `save` returned; derived quantities stay as they were."""
    mujoco.mj_setState(model, data, state, WHOLE)


def object_joint(model: mujoco.MjModel, robot_positions: int) -> int:
    """Return the joint that moves the scene's main object: the first free one, else the first of no robot.

    robot_positions: how many of the simulator's positions are the robot's, where it comes first.
    """
    free = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
    if len(free):
        return int(free[0])
    return int(np.flatnonzero(model.jnt_qposadr >= robot_positions)[0])


def displace(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    joint: int,
    generator: np.random.Generator,
    low: tuple[float, float],
    high: tuple[float, float],
) -> None:
    """Move a joint's object at once: a free one to another place on the table, at the height it has, another
    one to the farther end of its range. It then rests.

    low, high: corners of the table's part in question, x and y in metres.
    """
    position, velocity = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
        place = data.qpos[position : position + 2].copy()
        there = place
        while np.linalg.norm(there - place) < DISPLACEMENT:
            there = generator.uniform(low, high)
        data.qpos[position : position + 2] = there
        data.qvel[velocity : velocity + 6] = 0.0
    else:
        ends = model.jnt_range[joint]
        data.qpos[position] = ends[np.argmax(np.abs(ends - data.qpos[position]))]
        data.qvel[velocity] = 0.0


def repaint(model: mujoco.MjModel, body: int, generator: np.random.Generator) -> None:
    """Give a body and all that hangs on it one colour, clearly another than it has."""
    roots = {body}
    for child in range(model.nbody):  # parents come before their children
        if model.body_parentid[child] in roots:
            roots.add(child)
    geoms = np.flatnonzero(np.isin(model.geom_bodyid, list(roots)))
    present = model.geom_rgba[geoms, :3]
    others = [c for c in COLORS if np.linalg.norm(present - c, axis=1).min() >= CLEARLY_ANOTHER]
    model.geom_rgba[geoms, :3] = others[int(generator.integers(len(others)))]
