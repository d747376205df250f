"""What a scripted expert is doing right now, in plain English: one rule per task, state in, sub-goal out.

Each rule follows the branches of that task's policy in `metaworld.policies` with the policy's own thresholds,
so that the text changes when the policy changes its mind; `StageProgress` steadies it where a policy hovers
around a threshold. State: (39,), see `MetaworldEnv.privileged_state`. All lengths are metres.
"""

from collections.abc import Callable

import numpy as np

Shift = tuple[float, float, float]
Rule = Callable[[np.ndarray], str]

HAND, THING, OTHER, GOAL = slice(0, 3), slice(4, 7), slice(11, 14), slice(36, 39)
AXES = {"x": [0], "z": [2], "xy": [0, 1], "xz": [0, 2]}
HERE = (0.0, 0.0, 0.0)
STEPS_TO_GO_BACK = 10


def _distance(state: np.ndarray, axes: str, shift: Shift = HERE, of: slice = THING) -> float:
    """Return how far the hand is, along `axes`, from the object (or the goal) plus `shift`."""
    return float(np.linalg.norm((state[HAND] - (state[of] + np.array(shift)))[AXES[axes]]))


def _two(axes: str, radius: float, shift: Shift, approach: str, act: str) -> Rule:
    """Go near the object along `axes`, then act."""
    return lambda state: approach if _distance(state, axes, shift) > radius else act


def _three(radius: float, height: float, shift: Shift, above: str, lower: str, act: str) -> Rule:
    """Go above the object, go down to it, then act."""

    def rule(state: np.ndarray) -> str:
        if _distance(state, "xy", shift) > radius:
            return above
        return lower if _distance(state, "z", shift) > height else act

    return rule


def _grasp(thing: str, radius: float, height: float, shift: Shift, act: str = "") -> Rule:
    return _three(radius, height, shift, f"move above the {thing}", f"lower to the {thing}", act)


def _beside(thing: str, radius: float, height: float, shift: Shift, act: str) -> Rule:
    return _three(radius, height, shift, f"move above the {thing}", f"lower beside the {thing}", act)


def _then(grasp: Rule, act: Rule) -> Rule:
    """Follow `grasp` until it says nothing (""), then `act`."""
    return lambda state: grasp(state) or act(state)


def _assembly(state: np.ndarray) -> str:
    shift = (-0.02, 0.0, 0.0)
    if _distance(state, "xy", shift) > 0.02:
        return "move above the wrench"
    if _distance(state, "xy", (0.12, 0.0, 0.14), GOAL) <= 0.02:
        return "lower the ring over the peg"
    if _distance(state, "z", shift) > 0.05:
        return "lower to the wrench"
    is_low = _distance(state, "z", (0.12, 0.0, 0.14), GOAL) > 0.04
    return "lift the wrench" if is_low else "carry the ring to the peg"


def _basketball(state: np.ndarray) -> str:
    is_low = abs(state[THING][2] + 0.01 - 0.35) > 0.025
    return "lift the ball as high as the hoop" if is_low else "carry the ball into the hoop"


def _bin_picking(state: np.ndarray) -> str:
    # The policy grasps at the middle of the bin so that its fingers stay clear of the walls.
    block = np.array([state[4], np.clip(state[5], 0.675, 0.725), state[6] + 0.03])
    offset = state[HAND] - block
    if np.hypot(offset[0], offset[1]) > 0.02:
        return "move above the block"
    if abs(offset[2]) > 0.01:
        return "lower to the block"
    if np.hypot(state[0] - 0.12, state[1] - 0.7) <= 0.02:
        return "lower the block into the blue bin"
    return "lift the block" if state[2] < 0.15 else "carry the block above the blue bin"


def _button_press(state: np.ndarray) -> str:
    shift = (0.0, 0.0, -0.07)
    is_aligned = _distance(state, "x", shift) <= 0.02 and _distance(state, "z", shift) <= 0.02
    return "push the button in" if is_aligned else "line up with the button"


def _button_press_wall(state: np.ndarray) -> str:
    if _distance(state, "x") > 0.02:
        return "rise above the wall"
    if state[THING][1] - state[1] > 0.09:
        return "move over the wall"
    return "lower to the button" if _distance(state, "z", (0.0, 0.0, 0.04)) > 0.02 else "push the button in"


def _door_close(state: np.ndarray) -> str:
    shift = (0.05, 0.12, 0.1)
    offset = state[HAND] - (state[THING] + np.array(shift))
    if offset[0] > 0:
        return "rise above the door" if offset[2] < 0.2 else "move over to the outer side of the door"
    return "lower beside the door" if abs(offset[2]) > 0.04 else "push the door shut"


def _door_lock(state: np.ndarray) -> str:
    shift = (-0.02, -0.02, 0.0)
    if _distance(state, "xy", shift) > 0.02:
        return "rise away from the door" if state[2] < 0.25 else "move above the lock"
    return "lower to the lock" if _distance(state, "z", shift) > 0.02 else "turn the lock down"


def _door_unlock(state: np.ndarray) -> str:
    if _distance(state, "xy", (-0.04, -0.02, -0.03)) <= 0.02:
        return "turn the lock sideways"
    return "lower in front of the door" if state[2] > 0.15 else "move beside the lock"


def _drawer_close(state: np.ndarray) -> str:
    offset = state[HAND] - (state[THING] + np.array((0.0, 0.0, -0.02)))
    if offset[1] > 0:
        return "rise above the drawer" if offset[2] < 0.23 else "move in front of the drawer"
    return "lower to the drawer handle" if abs(offset[2]) > 0.04 else "push the drawer shut"


def _hammer(state: np.ndarray) -> str:
    shift = (-0.04, 0.0, -0.01)
    if _distance(state, "xy", shift) > 0.04:
        return "move above the hammer"
    if _distance(state, "z", shift) > 0.05 and state[THING][2] - 0.01 < 0.03:
        return "lower to the hammer"
    is_aligned = np.hypot(state[0] - 0.05, state[2] - 0.16) <= 0.02
    return "drive the nail in" if is_aligned else "bring the hammer in line with the nail"


def _hand_insert(state: np.ndarray) -> str:
    is_above = _distance(state, "xy", of=GOAL) <= 0.04
    return "lower the block into the hole" if is_above else "carry the block above the hole"


def _peg_insert_side(state: np.ndarray) -> str:
    peg = state[THING]
    is_aligned = np.hypot(peg[1] - state[GOAL][1], peg[2] - 0.16) <= 0.03
    return "push the peg into the hole" if is_aligned else "bring the peg in line with the hole"


def _peg_unplug_side(state: np.ndarray) -> str:
    if _distance(state, "xy", (-0.02, 0.0, 0.035)) > 0.04:
        return "move above the peg"
    return "lower to the peg" if abs(state[2] - 0.15) > 0.02 else "pull the peg out"


def _pick_out_of_hole(state: np.ndarray) -> str:
    is_high = _distance(state, "z", of=GOAL) <= 0.04
    return "move the block to the goal" if is_high else "lift the block out of the hole"


def _pick_place(state: np.ndarray) -> str:
    shift = (-0.005, 0.0, 0.0)
    if _distance(state, "xy", shift) > 0.02:
        return "move above the block"
    if _distance(state, "z", shift) > 0.05 and state[THING][2] < 0.04:
        return "lower to the block"
    return "close the gripper on the block" if state[3] > 0.73 else "carry the block to the goal"


def _is_at_wall(hand: np.ndarray, left: float, right: float) -> bool:
    return left <= hand[0] <= right and 0.60 <= hand[1] <= 0.80


def _pick_place_wall(state: np.ndarray) -> str:
    shift = (-0.005, 0.0, 0.0)
    if _distance(state, "xy", shift) > 0.015:
        return "move above the block"
    if _distance(state, "z", shift) > 0.04 and state[THING][2] < 0.03:
        return "lower to the block"
    if _is_at_wall(state[HAND], -0.15, 0.35) and state[2] < 0.35:
        return "lift the block above the wall" if state[2] < 0.25 else "carry the block over the wall"
    return "place the block at the goal"


def _push_wall(state: np.ndarray) -> str:
    x, y = state[THING][0] - 0.005, state[THING][1]
    if -0.1 <= x <= 0.3 and 0.65 <= y <= 0.75:
        return "push the block sideways past the wall"
    if (-0.15 < x < 0.05 or 0.15 < x < 0.35) and 0.695 <= y <= 0.755:
        return "push the block forward past the wall"
    return "push the block to the goal"


def _reach_wall(state: np.ndarray) -> str:
    is_blocked = _is_at_wall(state[HAND], -0.1, 0.3) and state[2] < 0.25
    return "rise above the wall" if is_blocked else "move to the goal"


def _shelf_place(state: np.ndarray) -> str:
    if _distance(state, "x", of=GOAL) > 0.02:
        return "bring the block in front of the shelf"
    return "lift the block as high as the shelf" if state[2] < 0.30 else "put the block on the shelf"


def _soccer(state: np.ndarray) -> str:
    # This policy has no branch to follow: it chases a point behind the ball and so pushes it.
    return "move behind the ball" if _distance(state, "xy") > 0.06 else "push the ball to the goal"


def _stick(stick: Shift, bottle: Shift, touch: str, act: str) -> Rule:
    """Take the stick, bring it to the bottle, then move the bottle with it."""
    grasp = _grasp("stick", 0.02, 0.02, stick)

    def rule(state: np.ndarray) -> str:
        gap = state[THING] + np.array(stick) - (state[OTHER] + np.array(bottle))
        if abs(gap[0]) <= 0.04:
            return act
        return grasp(state) or ("line up with the bottle" if np.any(np.abs(gap[1:]) > 0.02) else touch)

    return rule


def _sweep(state: np.ndarray) -> str:
    sweep = "sweep the block off the table"
    return sweep if state[0] >= 0.2 else _grasp("block", 0.04, 0.04, (0, 0, 0.015), sweep)(state)


def _box_close(state: np.ndarray) -> str:
    return "lift the lid" if abs(state[2] - 0.15) > 0.04 else "put the lid on the box"


STAGES: dict[str, Rule] = {
    "assembly": _assembly,
    "basketball": _then(_grasp("ball", 0.04, 0.025, (0, 0, 0.01)), _basketball),
    "bin-picking": _bin_picking,
    "box-close": _then(_grasp("lid", 0.01, 0.05, (0, 0, 0.02)), _box_close),
    "button-press-topdown": _two("xy", 0.04, HERE, "move above the button", "press the button down"),
    "button-press-topdown-wall": _two(
        "xy", 0.04, (0, -0.06, 0), "move over the wall", "press the button down"
    ),
    "button-press": _button_press,
    "button-press-wall": _button_press_wall,
    "coffee-button": _two("xz", 0.02, (0, 0, -0.07), "line up with the button", "push the button in"),
    "coffee-pull": _grasp("mug", 0.06, 0.02, (-0.005, 0, 0.05), "pull the mug to the goal"),
    "coffee-push": _grasp("mug", 0.06, 0.02, (0.01, 0, 0.05), "push the mug under the machine"),
    "dial-turn": _beside("dial", 0.02, 0.02, (0.05, 0.02, 0.09), "turn the dial"),
    "disassemble": _grasp("wrench", 0.02, 0.03, (-0.02, 0, 0.01), "lift the wrench off the peg"),
    "door-close": _door_close,
    "door-lock": _door_lock,
    "door-open": _beside("door handle", 0.12, 0.04, (-0.05, 0, 0), "pull the door open"),
    "door-unlock": _door_unlock,
    "hand-insert": _then(_grasp("block", 0.02, 0.05, HERE), _hand_insert),
    "drawer-close": _drawer_close,
    "drawer-open": _grasp("drawer handle", 0.06, 0.04, (0, 0, -0.02), "pull the drawer open"),
    "faucet-open": _beside("faucet handle", 0.04, 0.04, (-0.04, 0, 0.03), "turn the faucet open"),
    "faucet-close": _beside("faucet handle", 0.04, 0.04, (0.04, 0, 0.03), "turn the faucet shut"),
    "hammer": _hammer,
    "handle-press-side": _two("xy", 0.02, HERE, "move above the handle", "press the handle down"),
    "handle-press": _two("xy", 0.02, (0, -0.02, 0), "move above the handle", "press the handle down"),
    "handle-pull-side": _grasp("handle", 0.04, 0.03, HERE, "pull the handle up"),
    "handle-pull": _three(
        0.02, 0.02, (0, -0.04, 0), "move to the handle", "reach under the handle", "pull the handle up"
    ),
    "lever-pull": _three(
        0.02, 0.02, (0, -0.055, 0), "move below the lever", "rise to the lever", "push the lever up"
    ),
    "peg-insert-side": _then(_grasp("peg", 0.04, 0.025, HERE), _peg_insert_side),
    "pick-place-wall": _pick_place_wall,
    "pick-out-of-hole": _then(_grasp("block", 0.02, 0.01, (0, 0, 0.02)), _pick_out_of_hole),
    "reach": lambda state: "move to the goal",
    "push-back": _grasp("block", 0.04, 0.055, HERE, "drag the block back to the goal"),
    "push": _grasp("block", 0.02, 0.04, (-0.005, 0, 0), "push the block to the goal"),
    "pick-place": _pick_place,
    "plate-slide": _beside("plate", 0.03, 0.04, (0, -0.055, 0.03), "slide the plate forward"),
    "plate-slide-side": _beside("plate", 0.04, 0.04, (0.07, 0, -0.005), "slide the plate sideways"),
    "plate-slide-back": _grasp("plate", 0.01, 0.04, (0, -0.065, 0.025), "slide the plate back"),
    "plate-slide-back-side": _grasp("plate", 0.01, 0.04, (0.023, 0, 0.025), "slide the plate back sideways"),
    "peg-unplug-side": _peg_unplug_side,
    "soccer": _soccer,
    "stick-push": _stick(
        (0.015, 0, 0.03), HERE, "push the stick against the bottle", "push the bottle to the goal"
    ),
    "stick-pull": _stick(
        (-0.015, 0, 0.03),
        (-0.015, 0, 0.03),
        "put the stick through the handle",
        "pull the bottle to the goal",
    ),
    "push-wall": _then(_grasp("block", 0.02, 0.04, (-0.005, 0, 0)), _push_wall),
    "reach-wall": _reach_wall,
    "shelf-place": _then(_grasp("block", 0.04, 0.04, (-0.005, 0, 0.015)), _shelf_place),
    "sweep-into": _grasp("block", 0.04, 0.04, (-0.005, 0, 0.01), "sweep the block into the hole"),
    "sweep": _sweep,
    "window-open": _beside("window handle", 0.04, 0.02, (-0.03, -0.03, -0.08), "slide the window open"),
    "window-close": _beside("window handle", 0.04, 0.02, (0.03, -0.03, -0.08), "slide the window shut"),
}


class StageProgress:
    """The sub-goal over an episode: forward at once, back only after STEPS_TO_GO_BACK steps in a row."""

    def __init__(self, rule: Rule) -> None:
        """Follow `rule`, a value of STAGES."""
        self._rule = rule
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self._seen: list[str] = []
        self._current = ""
        self._steps_back = 0

    def stage(self, state: np.ndarray) -> str:
        """Return the sub-goal of the next step, whose state (39,) is given."""
        text = self._rule(state)
        if text not in self._seen:
            self._seen.append(text)
        is_earlier = self._current != "" and self._seen.index(text) < self._seen.index(self._current)
        self._steps_back = self._steps_back + 1 if is_earlier else 0
        if not is_earlier or self._steps_back == STEPS_TO_GO_BACK:
            self._current, self._steps_back = text, 0
        return self._current
