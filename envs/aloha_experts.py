"""Scripted experts of ALOHA's two tasks: they see the simulator's state and say which sub-goal they pursue.

A plan is a list of sub-goals. One is left when the state shows that it is reached, and a thing that slips out
of a hand takes the plan back to the beginning. Goals are poses of the grippers relative to where the things
are now, so that a push is answered. Metres and radians.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from envs.aloha import TASKS
from envs.aloha_arm import pose, rotation
from envs.aloha_hands import (
    ARMS,
    CAREFUL,
    FAST,
    HOME,
    LOWEST_TIP,
    METRES_PER_RADIAN,
    SLOW,
    Hand,
    HandGoal,
    Scene,
    Thing,
    carry,
    fingertips,
    funnel,
    grip_at,
    misfit,
    read_scene,
    turn_between,
    turn_towards,
    yaw_of,
)

LEFT, RIGHT = 0, 1
CUBE = Thing(width=0.04, half_length=0.0)
PEG = Thing(width=0.02, half_length=0.05)
SOCKET = Thing(width=0.044, half_length=0.05)

PITCH = np.deg2rad(60.0)
"""How steeply a hand reaches down to the table."""
REACHED = 0.01
MEETING = np.array((0.0, 0.5, 0.2))


class Plan(Protocol):
    """Sub-goals of a task and how to pursue them."""

    stages: tuple[str, ...]

    def next_stage(self, stage: int, scene: Scene) -> int:
        """Return the sub-goal that follows from the state; the same one while it is not reached."""
        ...

    def goals(self, stage: int, scene: Scene) -> tuple[HandGoal, HandGoal]:
        """Return what the left and the right hand shall do for a sub-goal."""
        ...


class AlohaExpert:
    """Pursues a plan. It remembers the sub-goal and the arms' targets; all else follows from the state."""

    def __init__(self, plan: Plan) -> None:
        """Take the plan of a task."""
        self._plan = plan
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._stage = 0
        self._hands = (Hand(), Hand())

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the action, (14,) float32 within the action space, for an `AlohaEnv.privileged_state`."""
        scene = self._look(state)
        goals = self._plan.goals(self._stage, scene)
        targets = [
            hand.follow(goal, joints)
            for hand, goal, joints in zip(self._hands, goals, scene.joints, strict=True)
        ]
        return np.concatenate(targets).astype(np.float32)

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal that `act` pursues, in plain English."""
        self._look(state)
        return self._plan.stages[self._stage]

    def _look(self, state: np.ndarray) -> Scene:
        scene = read_scene(state)
        for _ in self._plan.stages:
            self._stage = self._plan.next_stage(self._stage, scene)
        return scene


def _go(scene: Scene, hand: int, gripper: np.ndarray, opening: float, speed: float) -> HandGoal:
    joints = ARMS[hand].joints(gripper, near=scene.joints[hand])
    return HandGoal(joints=joints, opening=opening, speed=speed)


def _reach(scene: Scene, hand: int, grip: np.ndarray) -> HandGoal:
    """Approach a grip, fingers first and open."""
    behind = funnel(scene.grippers[hand], grip, float(scene.gaps[hand]))
    is_far = misfit(scene.grippers[hand], grip) > 0.1
    return _go(scene, hand, behind, 1.0, FAST if is_far else CAREFUL)


def _from_above(hand: int, place: np.ndarray, yaw: float) -> np.ndarray:
    """Return the grip that reaches down, from the side of the hand's arm, to a place on the table."""
    facing = rotation("z", yaw + np.pi * (hand == RIGHT))
    point = np.array((place[0], place[1], max(place[2], LOWEST_TIP)))
    return grip_at(point, facing @ rotation("y", PITCH))


class TransferPlan:
    """The right hand lifts the cube by two sides; the left takes it by top and bottom."""

    stages: tuple[str, ...] = (
        "reach for the cube with the right gripper",
        "close the right gripper on the cube",
        "lift the cube to the middle",
        "reach for the cube with the left gripper",
        "close the left gripper on the cube",
        "let go of the cube with the right gripper",
        "hold the cube with the left gripper",
    )

    def next_stage(self, stage: int, scene: Scene) -> int:
        """Return the sub-goal that follows from the state; the same one while it is not reached."""
        (cube,) = scene.objects
        near = [CUBE.is_between(cube, gripper) for gripper in scene.grippers]
        held = [
            CUBE.is_held(cube, gripper, gap) for gripper, gap in zip(scene.grippers, scene.gaps, strict=True)
        ]
        keeps = near[RIGHT] if stage < 5 else near[LEFT]
        if stage > 0 and not keeps:
            return 0
        if stage == 4 and not near[LEFT]:
            return 3
        reached = (
            misfit(scene.grippers[RIGHT], self._right_grip(cube)) < REACHED,
            held[RIGHT],
            np.linalg.norm(cube[:3, 3] - MEETING) < 0.015,
            misfit(scene.grippers[LEFT], self._left_grip(cube)) < REACHED,
            held[LEFT],
            scene.gaps[RIGHT] > 0.055,
            False,
        )
        return stage + bool(reached[stage])

    def goals(self, stage: int, scene: Scene) -> tuple[HandGoal, HandGoal]:
        """Return what the left and the right hand shall do for a sub-goal."""
        (cube,) = scene.objects
        return self._left(stage, scene, cube), self._right(stage, scene, cube)

    def _left(self, stage: int, scene: Scene, cube: np.ndarray) -> HandGoal:
        if stage < 2:
            return HandGoal(joints=HOME, opening=1.0)
        if stage == 2:
            grip = grip_at(MEETING - (0.13, 0.0, 0.0), rotation("x", np.pi / 2))
            return _go(scene, LEFT, grip, 1.0, FAST)
        if stage == 3:
            return _reach(scene, LEFT, self._left_grip(cube))
        if stage == 4:
            return _go(scene, LEFT, self._left_grip(cube), 0.0, SLOW)
        return _go(scene, LEFT, self._towards_meeting(cube, scene.grippers[LEFT]), 0.0, SLOW)

    def _right(self, stage: int, scene: Scene, cube: np.ndarray) -> HandGoal:
        if stage == 0:
            return _reach(scene, RIGHT, self._right_grip(cube))
        if stage == 1:
            return _go(scene, RIGHT, self._right_grip(cube), 0.0, SLOW)
        gripper = scene.grippers[RIGHT]
        if stage < 5:
            return _go(scene, RIGHT, self._towards_meeting(cube, gripper), 0.0, CAREFUL)
        if stage == 5:
            return _go(scene, RIGHT, gripper, 1.0, SLOW)
        if np.linalg.norm(fingertips(gripper) - cube[:3, 3]) > 0.08:
            return HandGoal(joints=HOME, opening=1.0)
        return _go(scene, RIGHT, gripper @ pose((-0.1, 0.0, 0.0), np.eye(3)), 1.0, CAREFUL)

    def _right_grip(self, cube: np.ndarray) -> np.ndarray:
        flattest = cube[:3, np.abs(cube[2, :3]).argmin()]
        return _from_above(RIGHT, cube[:3, 3], yaw_of(flattest, np.pi / 2))

    def _left_grip(self, cube: np.ndarray) -> np.ndarray:
        return grip_at(cube[:3, 3], rotation("x", np.pi / 2))

    def _towards_meeting(self, cube: np.ndarray, gripper: np.ndarray) -> np.ndarray:
        return carry(cube, pose(MEETING, _squared(cube[:3, :3])), gripper)


def _squared(matrix: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) by right angles that is next to another."""
    first = np.abs(matrix[:, 0]).argmax()
    second = np.abs(np.where(np.arange(3) == first, 0.0, matrix[:, 1])).argmax()
    result = np.zeros((3, 3))
    result[first, 0], result[second, 1] = np.sign(matrix[first, 0]), np.sign(matrix[second, 1])
    result[:, 2] = np.cross(result[:, 0], result[:, 1])
    return result


# Distances between the middles of peg and socket: lined up outside, where the socket's walls begin to guide,
# to steer for, and to hold. The pin is reached at 0.1; a peg pressed for long slips through the fingers.
APART, MOUTH, INSIDE, PRESSED = 0.16, 0.115, 0.095, 0.0975
LONGEST_PUSH = 0.02
"""How far ahead of the peg its goal may be, so that it moves straight."""
FORWARD = np.array((1.0, 0.0, 0.0))
SOCKET_MEETING = MEETING - 0.08 * FORWARD
GRIP_FROM_MIDDLE = 0.02


class InsertionPlan:
    """Both hands lift their thing, away from the ends that will meet; the right one moves the peg in."""

    stages: tuple[str, ...] = (
        "reach for the peg and the socket",
        "close the grippers on the peg and the socket",
        "lift the peg and the socket and line them up",
        "insert the peg into the socket",
        "hold the peg in the socket",
    )

    def next_stage(self, stage: int, scene: Scene) -> int:
        """Return the sub-goal that follows from the state; the same one while it is not reached."""
        socket, peg = self._places(scene)
        is_near = SOCKET.is_between(socket, scene.grippers[LEFT]) and PEG.is_between(
            peg, scene.grippers[RIGHT]
        )
        if stage > 0 and not is_near:
            return 0
        held = [self._is_held(scene, hand) for hand in (LEFT, RIGHT)]
        off, depth = _mismatch(socket, peg)
        if stage > 2 and off > 0.03 and depth > 0.12:
            return 2
        at_grip = [
            held[hand] or misfit(scene.grippers[hand], self._grip(scene, hand)) < REACHED
            for hand in (LEFT, RIGHT)
        ]
        is_up = np.linalg.norm(socket[:3, 3] - SOCKET_MEETING) < 0.015
        reached = (
            all(at_grip),
            all(held),
            is_up and off < 0.008 and depth < APART + 0.01,
            depth < 0.1,
            False,
        )
        return stage + bool(reached[stage])

    def goals(self, stage: int, scene: Scene) -> tuple[HandGoal, HandGoal]:
        """Return what the left and the right hand shall do for a sub-goal."""
        return self._hand(stage, scene, LEFT), self._hand(stage, scene, RIGHT)

    def _hand(self, stage: int, scene: Scene, hand: int) -> HandGoal:
        grip = self._grip(scene, hand)
        if stage == 0 and not self._is_held(scene, hand):
            return _reach(scene, hand, grip)
        if stage == 1:
            return _go(scene, hand, grip, 0.0, SLOW)
        socket, peg = self._places(scene)
        if hand == LEFT:
            thing, goal = socket, _lined_up(socket, SOCKET_MEETING, FORWARD)
        elif stage < 3:
            thing, goal = peg, _lined_up(peg, SOCKET_MEETING + APART * FORWARD, FORWARD)
        else:
            thing, goal = peg, self._inserted(socket, peg, PRESSED if stage == 4 else INSIDE)
        speed = CAREFUL if stage < 3 else SLOW
        return _go(scene, hand, carry(thing, goal, scene.grippers[hand]), 0.0, speed)

    def _inserted(self, socket: np.ndarray, peg: np.ndarray, nearest: float) -> np.ndarray:
        """Return where the peg shall be next: before the socket's mouth until lined up, then deeper in it."""
        off, depth = _mismatch(socket, peg)
        axis = _along_x(socket)
        goal = nearest if depth < MOUTH else np.clip(nearest + 12.0 * (off - 0.006), nearest, APART)
        return _lined_up(peg, socket[:3, 3] + max(goal, depth - LONGEST_PUSH) * axis, axis)

    def _grip(self, scene: Scene, hand: int) -> np.ndarray:
        place = self._places(scene)[hand]
        outward = _along_x(place) * (GRIP_FROM_MIDDLE if hand == RIGHT else -GRIP_FROM_MIDDLE)
        return _from_above(hand, place[:3, 3] + outward, yaw_of(place[:3, 0], np.pi))

    def _is_held(self, scene: Scene, hand: int) -> bool:
        thing, place = (SOCKET, PEG)[hand], self._places(scene)[hand]
        return thing.is_held(place, scene.grippers[hand], float(scene.gaps[hand]))

    def _places(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Return the poses of what the left and the right hand hold."""
        peg, socket = scene.objects
        return socket, peg


def _along_x(place: np.ndarray) -> np.ndarray:
    """Return a thing's long axis (3,), the way that looks towards +x."""
    return place[:3, 0] * (1.0 if place[0, 0] >= 0 else -1.0)


def _lined_up(place: np.ndarray, point: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return a thing's pose moved to a point and turned, no more than needed, along an axis."""
    return pose(point, turn_towards(_along_x(place), axis) @ place[:3, :3])


def _mismatch(socket: np.ndarray, peg: np.ndarray) -> tuple[float, float]:
    """Return how far the peg is beside the socket's axis, slant included, and how far outwards along it."""
    axis = _along_x(socket)
    offset = peg[:3, 3] - socket[:3, 3]
    depth = offset @ axis
    slant = turn_between(np.eye(3), turn_towards(_along_x(peg), axis))
    return float(np.linalg.norm(offset - depth * axis) + METRES_PER_RADIAN * slant), float(depth)


PLANS: dict[str, Callable[[], Plan]] = {
    "transfer-cube": TransferPlan,
    "insertion": InsertionPlan,
}


def make_expert(task: str) -> AlohaExpert:
    """Return the scripted expert of a task of TASKS.

    Raises:
        ValueError: another name.
    """
    if task not in PLANS:
        raise ValueError(f"task {task!r}: expected one of {', '.join(TASKS)}")
    return AlohaExpert(PLANS[task]())
