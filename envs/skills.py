"""What a gripper that points down does with things on a table, each step from the state alone.

`go` approaches from above, `touch` comes down on something, `pick` grips and `put` sets down. Metres.
"""

import numpy as np

from envs.tasks.task import Move, Sight

OPEN, CLOSED, RELEASE = 44.0, 0.0, 50.0
"""Openings of the gripper, per cent."""
INSIDE, BETWEEN = 0.003, 0.01
"""How far above the middle of a thing the jaws stop, so that they keep off the table, and how far aside the
point that they close on, metres: the thing is in the middle between them then, and the jaw that moves takes
it along. So there is room for 14 mm to both sides of it."""
OVER, TOLERANCE, BACK_OFF = 0.05, 0.006, 4.0
"""The gripper stays this far above until it is over the place: BACK_OFF for every metre beyond TOLERANCE."""
GRIPPED = 0.016
"""A thing whose middle is so near the point between closing jaws, when they move no more, is held."""
HOLDING, STILL = 36.0, 0.3
"""Jaws that are open by less than so many per cent, and turn slower than so many radians per second, have
closed on a thing."""
THERE, AT_REST = 0.008, 0.15
"""Metres, and radians per second of an arm's joints: so near and slow is there."""
PLACED = 0.015
"""Metres beside its place at which a thing may lie."""
HOLD = 6
"""Steps that a button has to be touched without a break until it is pressed, 0.2 s. Whoever presses stays: a
touch that is over when it begins teaches to go down and up at once, and so to hover."""
CLEAR = 0.035
"""What is carried is lifted so far before it goes sideways, metres."""


def above(place: np.ndarray, height: float) -> np.ndarray:
    """Return the place (3,) so far above another."""
    return place + np.array((0.0, 0.0, height))


def beside(sight: Sight, place: np.ndarray) -> float:
    """Return how far, beyond TOLERANCE, the gripper is from the line that stands on a place."""
    return float(np.linalg.norm((sight.pinch - place)[:2])) - TOLERANCE


def yaw(pose: np.ndarray) -> float:
    """Return the angle about the vertical of a pose (7,), radians."""
    w, x, y, z = pose[3:]
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def go(
    sight: Sight,
    place: np.ndarray,
    what: str,
    *,
    opening: float,
    facing: float | None = None,
    over: float = OVER,
) -> Move:
    """Come to a place from above: `over` it at first, and down once the gripper is over it."""
    height = np.clip(BACK_OFF * beside(sight, place), 0.0, over)
    return Move(what=what, place=above(place, height), opening=opening, facing=facing)


def touch(sight: Sight, name: str, what: str, *, height: float = 0.015) -> Move:
    """Bring the closed jaws down on a thing, to a `height` above its middle."""
    return go(sight, above(sight.place(name), height), what, opening=CLOSED)


def is_held(sight: Sight, name: str) -> bool:
    """Whether a thing is between jaws that have closed on it."""
    distance = float(np.linalg.norm(sight.place(name) - sight.pinch))
    return distance < GRIPPED and sight.joints[5] < HOLDING and abs(sight.rates[5]) < STILL


def jaw_angle(facing: float | None, pan: float) -> float:
    """Return the angle of the gripper about the vertical, radians, that turns the wrist least.

    facing: of a side that the jaws shall face, up to quarter turns; pan: of the arm, degrees.
    """
    outwards = -np.deg2rad(pan)
    if facing is None:
        return outwards
    return outwards + (facing - outwards + np.pi / 4) % (np.pi / 2) - np.pi / 4


def pick(sight: Sight, name: str, what: str) -> Move:
    """Come down around a thing with open jaws, and close them once they have come to rest there."""
    pose = sight.poses[name]
    angle = jaw_angle(yaw(pose), sight.joints[0])
    grip = pose[:3] + np.array((-BETWEEN * np.cos(angle), -BETWEEN * np.sin(angle), INSIDE))
    is_there = np.linalg.norm(sight.pinch - grip) < THERE and np.abs(sight.rates[:5]).max() < AT_REST
    # The jaw that moves shoves the thing towards the one that does not: no reason to open again.
    is_closing = sight.joints[5] < HOLDING and np.linalg.norm(sight.pinch - pose[:3]) < GRIPPED
    if is_there or is_closing:
        return Move(what=f"grip {what}", place=grip, opening=CLOSED, facing=yaw(pose))
    return go(sight, grip, f"reach for {what}", opening=OPEN, facing=yaw(pose))


def put(sight: Sight, name: str, place: np.ndarray, what: str, where: str) -> Move:
    """Pick a thing up, carry it over a place and let go of it there: its middle ends at `place`.

    what, where: thing and place as sub-goals call them.
    """
    if not is_held(sight, name):
        away = float(np.linalg.norm((sight.place(name) - place)[:2]))
        if away < PLACED:
            return leave(sight, f"let go of {what}")
        return pick(sight, name, what)
    grip = place + (sight.pinch - sight.place(name))
    aside = float(np.linalg.norm((sight.pinch - grip)[:2]))
    if aside < THERE and sight.place(name)[2] < place[2] + THERE:
        return leave(sight, f"let go of {what}")
    goal = above(grip, float(np.clip(BACK_OFF * (aside - TOLERANCE), 0.0, OVER)))
    if aside > THERE and sight.pinch[2] < place[2] + CLEAR:
        goal[:2] = sight.pinch[:2]
        goal[2] = place[2] + OVER
    return Move(what=f"put {what} on {where}", place=goal, opening=CLOSED)


def leave(sight: Sight, what: str) -> Move:
    """Open the jaws where they are, then go up."""
    is_open = sight.joints[5] > RELEASE - 5.0
    place = above(sight.pinch, OVER if is_open else 0.0)
    return Move(what=what, place=place, opening=RELEASE)
