"""How a push moves the T-shaped block of PushT, and how the pusher gets round it, from geometry alone.

In gym-pusht nothing rubs and the block stops at once. So a touch moves it along the surface normal and turns
it by its lever arm, just far enough to make room for the pusher, and a push along a straight line has one
outcome wherever the block lies: all of them fit into one table (quasi-static pushing without friction; Mason,
Mechanics of Robotic Manipulation, 2001).

Lengths are pixels, angles radians. The block's frame has its centre of mass as origin, x along the crossbar
and y down the stem; a pose is x, y, angle of that frame. P pushes, D distances, N points, C corners of a way.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

# gym-pusht's numbers: a crossbar of 120 x 30, a stem of 30 x 90 below its middle, a pusher of radius 15. The
# centre of mass is halfway between those of the two parts; inertia over mass is 3000 square pixels.
BAR_MIDDLE, BAR_HALF = np.array([0.0, -30.0]), np.array([60.0, 15.0])
STEM_MIDDLE, STEM_HALF = np.array([0.0, 30.0]), np.array([15.0, 45.0])
CENTRE_OF_MASS = np.array([0.0, 45.0])
"""In gym-pusht's own frame of the block."""
RADIUS = 15.0
INERTIA = 3000.0
OUTLINE = np.array(
    [[-60, -45], [60, -45], [60, -15], [15, -15], [15, 75], [-15, 75], [-15, -15], [-60, -15]], float
)
OUTER_CORNERS = OUTLINE[[0, 1, 2, 4, 5, 7]]
DETOUR = OUTER_CORNERS + 24.0 * np.array([[-1, -1], [1, -1], [1, 1], [1, 1], [-1, 1], [-1, 1]])
"""Corners of the ways round the block, 9 px clear of a pusher that touches it: one in a hurry cuts them."""

RUN_UP = 8.0
"""A push starts this far from the surface, so that the way there does not touch the block."""
DISTANCES = np.concatenate(
    [np.arange(0.5, 4, 0.5), np.arange(4, 12), np.arange(12, 40, 2), np.arange(40, 161, 4)]
)
SLANTS = np.radians([-45, -22, 0, 22, 45])
POINT_SPACING = 6.0


def turn(vectors: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """Turn vectors (..., 2) by angles (...)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _box_distance(points: np.ndarray, middle: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance (N,) of points (N, 2) to a box, and its gradient (N, 2)."""
    beside = np.abs(points - middle) - half
    outside = np.maximum(beside, 0.0)
    distance = np.hypot(outside[..., 0], outside[..., 1])
    is_outside = distance > 0
    nearest_side = np.stack([beside[..., 0] > beside[..., 1], beside[..., 0] <= beside[..., 1]], axis=-1)
    unit = outside / np.where(is_outside, distance, 1.0)[..., None]
    away = np.where(is_outside[..., None], unit, nearest_side)
    signed = np.where(is_outside, distance, beside.max(axis=-1))
    return signed, np.where(points < middle, -away, away)


def clearance(points: np.ndarray) -> np.ndarray:
    """Distance (...) of points (..., 2) in the block's frame to the block; negative inside."""
    bar, _ = _box_distance(points, BAR_MIDDLE, BAR_HALF)
    stem, _ = _box_distance(points, STEM_MIDDLE, STEM_HALF)
    return np.minimum(bar, stem)


def step_clear(point: np.ndarray, wanted: float) -> np.ndarray:
    """Move a point (2,) in the block's frame away from the block until its clearance is as wanted."""
    for _ in range(4):  # in the corner between crossbar and stem, each is in the way of leaving the other
        for middle, half in ((BAR_MIDDLE, BAR_HALF), (STEM_MIDDLE, STEM_HALF)):
            distance, outwards = _box_distance(point, middle, half)
            point = point + outwards * max(wanted - distance, 0.0)
    return point


def _boundary() -> tuple[np.ndarray, np.ndarray]:
    """Points of the block's outline, one for each 5 px, and the outward normals there: (N, 2) each."""
    following = np.roll(OUTLINE, -1, axis=0)
    cells = (np.linalg.norm(following - OUTLINE, axis=1) // 5).astype(int)
    sides = zip(OUTLINE, following, cells, strict=True)
    points = [a + (b - a) * ((np.arange(n) + 0.5) / n)[:, None] for a, b, n in sides]
    along = np.repeat((following - OUTLINE) / (5 * cells[:, None]), cells, axis=0)
    return np.concatenate(points), np.stack([along[:, 1], -along[:, 0]], axis=1)


BOUNDARY, BOUNDARY_NORMAL = _boundary()


def uncovered(error: np.ndarray) -> float:
    """Share of an outline that the block leaves bare, for an outline at a pose (3,) in the block's frame.

    To first order: right within a tenth of a per cent for the few pixels that matter.
    """
    moved = turn(BOUNDARY, error[2]) + error[:2] - BOUNDARY
    return float(2.5 * np.abs((moved * BOUNDARY_NORMAL).sum(axis=1)).sum() / 6300)


@dataclass(frozen=True, kw_only=True)
class Pushes:
    """Straight pushes and their outcomes, in the frame of the block as it lies before the push.

    start: (P, 2), where the pusher's centre starts; direction: (P, 2), of length one; shift: (P, D, 2) and
    angle: (P, D), the block's motion once the pusher has gone `RUN_UP + DISTANCES[d]`.
    """

    start: np.ndarray
    direction: np.ndarray
    shift: np.ndarray
    angle: np.ndarray


class Ways:
    """Shortest ways from one point round the block to every target, in the block's frame.

    lengths: (N,), infinite for a target that cannot be reached.
    """

    def __init__(self, origin: np.ndarray, corners: np.ndarray, targets: np.ndarray) -> None:
        """Search from origin (2,) over corners (C, 2), where a way may bend, to targets (N, 2)."""
        self._corners, self._targets = corners, targets
        sources, count = np.concatenate([origin[None], corners]), len(corners)
        ends = np.concatenate([corners, targets])
        gaps = ends[None] - sources[:, None]
        points = sources[:, None, None] + np.linspace(0, 1, 20)[:, None] * gaps[:, :, None]
        is_clear = clearance(points).min(axis=-1) > RADIUS + 1
        straight = np.where(is_clear, np.hypot(gaps[..., 0], gaps[..., 1]), np.inf)
        reach, self._before = straight[0, :count], np.full(count, -1)
        for _ in range(count):  # Bellman-Ford
            detours = reach[:, None] + straight[1:, :count]
            is_shorter = detours.min(axis=0) < reach
            reach = np.where(is_shorter, detours.min(axis=0), reach)
            self._before = np.where(is_shorter, detours.argmin(axis=0), self._before)
        detours = reach[:, None] + straight[1:, count:]
        is_straight = straight[0, count:] <= detours.min(axis=0)
        self._last = np.where(is_straight, -1, detours.argmin(axis=0))
        self.lengths = np.minimum(straight[0, count:], detours.min(axis=0))

    def path(self, target: int) -> list[np.ndarray]:
        """Return the points (2,) to go through in turn, the target last."""
        points, corner = [self._targets[target]], int(self._last[target])
        while corner >= 0:
            points.insert(0, self._corners[corner])
            corner = int(self._before[corner])
        return points


def _touching_points() -> tuple[np.ndarray, np.ndarray]:
    """Where the pusher's centre can be while touching the block, (N, 2), and the outward normals (N, 2)."""
    points, normals = [], []
    for corner, following in zip(OUTLINE, np.roll(OUTLINE, -1, axis=0), strict=True):
        along = (following - corner) / np.linalg.norm(following - corner)
        normal = np.array([along[1], -along[0]])
        count = round(np.linalg.norm(following - corner) / POINT_SPACING)
        candidates = [(point, normal) for point in np.linspace(corner, following, count + 1)]
        candidates += [(following, turn(normal, np.radians(degrees))) for degrees in (30, 60)]
        for point, outward in candidates:
            if clearance(point + RADIUS * outward) > RADIUS - 1e-6:
                points.append(point + RADIUS * outward)
                normals.append(outward)
    return np.array(points), np.array(normals)


@cache
def all_pushes() -> Pushes:
    """Work out every push, at all touching points and slants; takes a third of a second, once."""
    points, normals = _touching_points()
    touch = np.repeat(points, len(SLANTS), axis=0)
    direction = turn(-normals[:, None, :], SLANTS).reshape(-1, 2)
    # In the corner between crossbar and stem, some run-ups would start inside the block.
    is_free = clearance(touch - RUN_UP * direction) > RADIUS + 2
    touch, direction = touch[is_free], direction[is_free]
    shift, angle = np.zeros_like(touch), np.zeros(len(touch))
    shifts, angles, gone = [], [], 0.0
    for distance in DISTANCES:
        for step in np.linspace(gone, distance, int(np.ceil(distance - gone)) + 1)[1:]:
            shift, angle = _make_room(touch + step * direction, shift, angle)
        shifts, angles, gone = [*shifts, shift], [*angles, angle], distance
    return Pushes(
        start=touch - RUN_UP * direction,
        direction=direction,
        shift=np.stack(shifts, axis=1),
        angle=np.stack(angles, axis=1),
    )


@cache
def ways_between_pushes() -> np.ndarray:
    """Length of the way (P, P) from where one push touches to where another starts; takes half a second."""
    pushes = all_pushes()
    touch = pushes.start + RUN_UP * pushes.direction
    points, which = np.unique(touch.round(6), axis=0, return_inverse=True)
    rows = [Ways(step_clear(point, RADIUS + 3), DETOUR, pushes.start).lengths for point in points]
    return np.stack(rows)[which]


def _make_room(pusher: np.ndarray, shift: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move blocks (N, 2), (N,) until the pushers (N, 2) no longer overlap with them."""
    for middle, half in ((BAR_MIDDLE, BAR_HALF), (STEM_MIDDLE, STEM_HALF)) * 3:
        point = turn(pusher - shift, -angle)
        distance, normal = _box_distance(point, middle, half)
        touch = point - distance[:, None] * normal
        lever = touch[:, 0] * normal[:, 1] - touch[:, 1] * normal[:, 0]
        impulse = np.maximum(RADIUS - distance, 0.0) / (1 + lever**2 / INERTIA)
        shift = shift - impulse[:, None] * turn(normal, angle)
        angle = angle - impulse * lever / INERTIA
    return shift, angle
