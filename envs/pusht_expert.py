"""A planning expert for PushT: it looks two pushes ahead, and goes round the block between them.

The outcome of every straight push is known (`envs.pusht_pushes`), so that a plan is the pair of pushes after
which the least time is left until the block covers its outline. The first of them is carried out: the pusher
goes round the block to where the push starts, pushes, and plans anew from where the block then lies, or
earlier if something came in between.

Lengths are pixels, angles radians, times control steps. P pushes, D distances, B pushes looked at further.
"""

from dataclasses import dataclass

import numpy as np

from envs.pusht import BLOCK, OUTLINE, PUSHER, TABLE_SIZE, TASKS
from envs.pusht_pushes import (
    CENTRE_OF_MASS,
    DETOUR,
    DISTANCES,
    OUTER_CORNERS,
    RADIUS,
    RUN_UP,
    Ways,
    all_pushes,
    step_clear,
    turn,
    uncovered,
    ways_between_pushes,
)

PIXELS_PER_RADIAN = 55.0
"""Turning the block displaces its parts as much as shifting it by so many pixels times the angle."""
BARE_WHEN_SOLVED = 0.045
"""gym-pusht asks for less than 0.05."""
IN_PLACE = 12.0
"""A push that leaves a smaller error than this puts the block into its place."""

# Time a way takes: its length over a speed, and the slowing down at its end. Measured on the pusher, which is
# a critically damped spring.
GOING_SPEED, GOING_DELAY, PUSHING_SPEED, PUSHING_DELAY = 22.0, 3.0, 9.0, 4.0
# Time that is left after a plan: some for each halving of the error, as an aligning push takes, and some for
# each pixel. A pixel has to cost more than pushing it away does, or the best plan is to put the work off.
HALVING_TIME, PIXEL_TIME, SMALL_ERROR = 20.0, 0.4, 1.5
FURTHER = 48
"""Pushes after which a second one is looked at."""

GOING_AHEAD, PUSHING_AHEAD = 75.0, 36.0
"""How far ahead of the pusher its target lies, at most. Its speed follows from that."""
EDGE, WALL, PASSAGE, NARROWNESS = 3.0, 8.0, 45.0, 0.5
"""The pusher keeps off the table's edge, the block off the walls; where the pusher cannot pass between block
and wall, each missing pixel counts as so many steps."""
LONGEST_WAY, LONGEST_PUSH = 60, 40

AT_REST = "leave the block where it is"


@dataclass(kw_only=True)
class Plan:
    """One push and the way to it, on the table.

    way: points (2,) still to pass, the start of the push last; empty once pushing. start, direction: (2,);
    length: of the push; block: its pose (3,) before; is_last: whether the block will cover its outline;
    going, pushing: sub-goals; steps: taken on the way or, later, in the push.
    """

    way: list[np.ndarray]
    start: np.ndarray
    direction: np.ndarray
    length: float
    block: np.ndarray
    is_last: bool
    going: str
    pushing: str
    steps: int = 0


class PushTExpert:
    """Plans pushes. Each action follows from the states of the episode so far, without chance."""

    def __init__(self) -> None:
        """Work out the outcomes of all pushes; takes a second, once per process."""
        self._pushes = all_pushes()
        self._between = ways_between_pushes()
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._plan: Plan | None = None
        self._resting_place: np.ndarray | None = None
        self._seen: np.ndarray | None = None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (2,) float32 in [0, 512], for a `PushTEnv.privileged_state`, (13,)."""
        self._follow(state)
        pusher, plan = state[PUSHER], self._plan
        if plan is None:
            assert self._resting_place is not None
            target = self._resting_place
        elif plan.way:
            gap = plan.way[0] - pusher
            target = pusher + gap * min(1.0, GOING_AHEAD / max(np.linalg.norm(gap), 1e-9))
        else:
            gone = (pusher - plan.start) @ plan.direction
            target = plan.start + plan.direction * min(gone + PUSHING_AHEAD, plan.length)
        return np.clip(target, 0.0, TABLE_SIZE).astype(np.float32)

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English; before or after it, once per step."""
        self._follow(state)
        if self._plan is None:
            return AT_REST
        return self._plan.going if self._plan.way else self._plan.pushing

    def _follow(self, state: np.ndarray) -> None:
        """Take note of a state, once, and plan if need be."""
        if self._seen is not None and np.array_equal(state, self._seen):
            return
        self._seen = state.copy()
        pusher, block = state[PUSHER], _centre_pose(state[BLOCK])
        error = _seen_from(block, _centre_pose(state[OUTLINE]))
        is_solved = _size(error) < 8 and uncovered(error) < BARE_WHEN_SOLVED
        plan = self._plan
        if plan is not None and not (_goes_on(plan, pusher, block) and (plan.is_last or not is_solved)):
            plan = None
        if plan is None and not is_solved:
            plan = self._make_plan(pusher, block, error)
        if plan is not None:
            self._resting_place = None
        elif self._resting_place is None:
            # Back the way it came, so that what is left of its speed moves the block no further.
            back = self._plan.direction if self._plan else np.zeros(2)
            self._resting_place = pusher - 20.0 * back
        self._plan = plan

    def _make_plan(self, pusher: np.ndarray, block: np.ndarray, error: np.ndarray) -> Plan:
        pushes = self._pushes
        origin = step_clear(turn(pusher - block[:2], -block[2]), RADIUS + 3)
        corners = np.clip(_to_table(block, DETOUR), 2.0, TABLE_SIZE - 2.0)
        ways = Ways(origin, turn(corners - block[:2], -block[2]), pushes.start)
        # Where all is forbidden, as in a corner of the table, the least forbidden push still moves the block.
        going = np.minimum(ways.lengths, 1e4)
        time = _time(going, DISTANCES) + self._blocked(block)
        shift, angle = error[:2] - pushes.shift, _wrap(error[2] - pushes.angle)
        left = _time_left(_norm(shift, angle))
        push, distance = _best_two_distances(time + left, FURTHER)
        after = (push, distance)
        here = block[:2] + turn(pushes.shift[after], block[2])
        blocks = np.column_stack([here, block[2] + pushes.angle[after]])
        errors = np.column_stack([turn(shift[after], -pushes.angle[after]), angle[after]])
        total = time[after] + np.minimum(left[after], self._second_push(push, blocks, errors))
        best = int(total.argmin())
        push, distance = int(push[best]), int(distance[best])
        path = [_to_table(block, point) for point in ways.path(push)]
        return Plan(
            way=path,
            start=path[-1],
            direction=turn(pushes.direction[push], block[2]),
            length=RUN_UP + DISTANCES[distance],
            block=block,
            is_last=uncovered(errors[best]) < BARE_WHEN_SOLVED,
            going="go round the block" if len(path) > 1 else "go to the block",
            pushing=_sub_goal(pushes.shift[push, distance], pushes.angle[push, distance], errors[best]),
        )

    def _blocked(self, block: np.ndarray) -> np.ndarray:
        """Time (P, D) charged for pushes that leave the table or press the block to a wall."""
        pushes = self._pushes
        start = _to_table(block, pushes.start)[:, None]
        end = start + turn(pushes.direction, block[2])[:, None] * (RUN_UP + DISTANCES)[:, None]
        corners = turn(OUTER_CORNERS, pushes.angle[..., None]) + pushes.shift[..., None, :]
        room = _room(_to_table(block, corners)).min(axis=-1)
        room_now = min(_room(_to_table(block, OUTER_CORNERS)).min(), WALL)
        is_off = (_room(start) < EDGE) | (_room(end) < EDGE) | (room < room_now)
        return 1e5 * is_off + NARROWNESS * np.maximum(PASSAGE - room, 0.0)

    def _second_push(self, first: np.ndarray, blocks: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """Time (B,) of the best second push and of what is then left.

        first: (B,), the pushes before; blocks, errors: (B, 3), the poses of block and outline after them.
        """
        pushes = self._pushes
        angle = _wrap(errors[:, 2, None, None] - pushes.angle)
        left = _time_left(_norm(errors[:, None, None, :2] - pushes.shift, angle))
        start = blocks[:, None, :2] + turn(pushes.start, blocks[:, 2, None])
        direction = turn(pushes.direction, blocks[:, 2, None])
        end = start[:, :, None] + direction[:, :, None] * (RUN_UP + DISTANCES)[:, None]
        is_off = (_room(start) < EDGE)[..., None] | (_room(end) < EDGE)
        time = _time(self._between[first], DISTANCES) + left
        return np.where(is_off, np.inf, time).min(axis=(1, 2))


def _goes_on(plan: Plan, pusher: np.ndarray, block: np.ndarray) -> bool:
    """Move a plan on by one step; returns False when it is over or has been spoilt."""
    plan.steps += 1
    while len(plan.way) > 1 and np.linalg.norm(pusher - plan.way[0]) < 20:
        plan.way.pop(0)
    if plan.way:
        if np.linalg.norm(pusher - plan.way[0]) < 5:
            plan.way, plan.steps = [], 0
        return _size(block - plan.block) < 1.5 and plan.steps < LONGEST_WAY
    gone = (pusher - plan.start) @ plan.direction
    aside = np.linalg.norm(pusher - plan.start - gone * plan.direction)
    return bool(gone < plan.length - 0.4 and aside < 8 and plan.steps < LONGEST_PUSH)


def _sub_goal(shift: np.ndarray, angle: float, error: np.ndarray) -> str:
    """What a push is for, that moves the block by shift (2,) and angle and leaves an error (3,)."""
    if _size(error) < IN_PLACE:
        return "push the block into place"
    is_turn = PIXELS_PER_RADIAN * abs(angle) > np.linalg.norm(shift)
    return "turn the block" if is_turn else "push the block towards its outline"


def _best_two_distances(cost: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the `count` lowest of costs (P, D), at most two of each push: (B,) and (B,)."""
    distance = np.argsort(cost, axis=1, kind="stable")[:, :2]
    lowest = np.take_along_axis(cost, distance, axis=1)
    best = np.argsort(lowest, axis=None, kind="stable")[:count]
    return best // 2, distance.reshape(-1)[best]


def _time(way: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Time (..., D) of going ways (...) and then pushing over distances (D,)."""
    going = way[..., None] / GOING_SPEED + GOING_DELAY
    return going + (RUN_UP + distance) / PUSHING_SPEED + PUSHING_DELAY


def _time_left(error: np.ndarray) -> np.ndarray:
    """Rough time (...) until the block covers its outline, from sizes of the error (...)."""
    halvings = np.log2(1 + np.maximum(error - SMALL_ERROR, 0.0) / SMALL_ERROR)
    return HALVING_TIME * halvings + PIXEL_TIME * error


def _norm(shift: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Size in pixels (...) of displacements by shifts (..., 2) and angles (...)."""
    return np.sqrt(shift[..., 0] ** 2 + shift[..., 1] ** 2 + (PIXELS_PER_RADIAN * angle) ** 2)


def _size(displacement: np.ndarray) -> float:
    return float(_norm(displacement[:2], displacement[2]))


def _room(points: np.ndarray) -> np.ndarray:
    """Distance (...) of points (..., 2) to the nearest edge of the table; negative beyond it."""
    return np.minimum(points, TABLE_SIZE - points).min(axis=-1)


def _wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _centre_pose(pose: np.ndarray) -> np.ndarray:
    """Pose (3,) of the centre of mass, from that of gym-pusht's origin of the block."""
    return np.append(pose[:2] + turn(CENTRE_OF_MASS, pose[2]), pose[2])


def _seen_from(block: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pose (3,) of another pose (3,) in the frame of the block."""
    return np.append(turn(other[:2] - block[:2], -block[2]), _wrap(other[2] - block[2]))


def _to_table(block: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) in the block's frame, on the table."""
    return block[:2] + turn(points, block[2])


def make_expert(task: str) -> PushTExpert:
    """Return the expert of "push-t". Raises ValueError for another task."""
    if task not in TASKS:
        raise ValueError(f"task {task!r}: expected {TASKS[0]}")
    return PushTExpert()
