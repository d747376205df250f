"""Memory: a cue is shown for a moment, then it is gone, and only later is there something to do about it.

The lamp turns white when it is time to act; the arm waits until then. Nothing in sight tells the cue any
more.
"""

import numpy as np

from envs import skills
from envs.tabletop import World, scatter
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, Color, Thing

LAMP = Thing(name="lamp", shape="ball", size=0.016, is_fixed=True, is_solid=False)
LAMP_PLACE = (0.24, 0.17, 0.03)
DARK, GO = (0.22, 0.22, 0.22), COLORS["white"]
PRESSED = COLORS["purple"]
"""The button's color while it is down, so that a press can be seen."""
CUE_STEPS = 21
FLASH_STEPS = 9
"""A cue is in sight for 0.7 s; a flash lasts 0.3 s, as does the dark after it."""
DELAY, LONG_DELAY = (15, 45), (60, 90)
"""Steps between cue and signal, to learn from and held out: 0.5 to 1.5 s and 2 to 3 s."""
WAITING = np.array((0.16, 0.0, 0.1))
SIZE, APART = 0.014, 0.07
ROW, ASIDE = (-0.085, 0.0, 0.085), 0.01
"""Where cups stand from right to left, metres, each at most so far aside."""
TOUCHED = 0.032
"""Metres from the middle of a thing: so near the point between closed jaws touches it."""
STAYS_DOWN = 15
"""Steps until a button that was touched comes up again, 0.5 s: down and up both last longer than a chunk of
actions, so that whoever looks in between sees every press."""
RAISED = 0.13
"""Metres above a button where the gripper waits for it to come up."""

CUE, GO_STEP, IS_GO, PRESSES, DOWN, HELD, FLASHES, PLACES = range(8)
"""Of a goal's numbers: what is to be remembered; the step of the signal, whether it has come; how often the
button has been pressed, for how many steps it will stay down, for how many it has been touched while it was
up; how often the lamp has flashed so far; from PLACES on, x and y of the choices."""

PADS = ("red", "green", "blue")
CUPS = ("right cup", "middle cup", "left cup")
"""As the arm sees them: they are alike but for where they stand."""

CUP_COLOR = (0.8, 0.65, 0.45)
TREAT = Thing(name="treat", shape="cube", size=0.01, color=COLORS["purple"], is_fixed=True, is_solid=False)


def _button(name: str, color: Color) -> Thing:
    return Thing(name=name, shape="cylinder", size=SIZE, color=color, is_fixed=True)


THINGS = {
    1: (LAMP, *(_button(name, COLORS[name]) for name in PADS)),
    2: (LAMP, TREAT, *(_button(name, CUP_COLOR) for name in CUPS)),
    3: (LAMP, _button("button", COLORS["yellow"]), _button("end", COLORS["black"])),
}
INSTRUCTIONS = {
    1: (
        "touch the pad of the color that the lamp showed",
        "remember the color of the lamp and touch that pad",
        "when the lamp turns white, touch the pad that has its first color",
    ),
    2: (
        "touch the cup that the purple cube was shown on",
        "remember where the purple cube was and touch that cup",
        "when the lamp turns white, touch the cup that had the purple cube",
    ),
    3: (
        "press the yellow button as often as the lamp flashed, then touch the black one",
        "count the flashes, press the yellow button so many times and end at the black one",
    ),
}


class Memory(Task):
    """Which color, which cup, how often.

    Level 1: the lamp shows red, green or blue; pads of the three colors appear with the signal. Level 2: a
    cube is shown on one of three cups that are alike, side by side. Level 3: the lamp flashes one to three
    times; with the signal a button appears, to be pressed so often, which changes its color while it is down,
    and another one that ends the episode. The first pad, cup or end that is touched counts, a cup also before
    the signal.
    Held out: longer delays.
    """

    def __init__(self, level: int, held_out: bool) -> None:
        """level: 1 to 3."""
        self.things = THINGS[level]
        self.steps = {1: 260, 2: 260, 3: 420}[level]
        self._level, self._delay = level, LONG_DELAY if held_out else DELAY
        self._choices = tuple(thing.name for thing in self.things if thing not in (LAMP, TREAT))
        self.goal_size = PLACES + 2 * len(self._choices)

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Show the cue, drawn apart from all that is in sight later."""
        cue = int(generator.integers(3))
        shown = 2 * FLASH_STEPS * (cue + 1) if self._level == 3 else CUE_STEPS
        go = shown + int(generator.integers(self._delay[0], self._delay[1] + 1))
        places = scatter(generator, len(self._choices), APART)
        if self._level == 2:
            places[:, 1] = ROW + generator.uniform(-ASIDE, ASIDE, 3)
        texts = INSTRUCTIONS[self._level]
        goal = Goal(
            instruction=texts[int(generator.integers(len(texts)))],
            numbers=np.array([cue, go, *np.zeros(PLACES - 2), *places.ravel()]),
        )
        world.place("lamp", LAMP_PLACE)
        for name in self._choices:
            world.hide(name)
        if self._level == 2:
            self._show_choices(world, goal)
            world.place("treat", (*places[cue], 2 * SIZE + TREAT.size))
        self._light(world, goal, 0)
        return goal

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """What is touched first counts; presses are counted once the button is down."""
        numbers = goal.numbers
        if step == numbers[GO_STEP]:
            numbers[IS_GO] = 1.0
            self._show_choices(world, goal)
        if self._level == 2 and step == CUE_STEPS:
            world.hide("treat")
        self._light(world, goal, step)
        distances = [float(np.linalg.norm(world.pinch() - world.position(name))) for name in self._choices]
        if self._level == 3:
            verdict = _count(numbers, *distances)
            world.paint("button", PRESSED if numbers[DOWN] else COLORS["yellow"])
            return verdict
        touched = int(np.argmin(distances))
        if distances[touched] > TOUCHED:
            return Verdict.RUNNING
        is_right = touched == numbers[CUE] and numbers[IS_GO] == 1.0
        return Verdict.SUCCESS if is_right else Verdict.FAILURE

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to what it should touch, once it should."""
        if not goal.numbers[IS_GO]:
            return {"closeness": 0.0}
        way = world.pinch() - world.position(self._wanted(goal.numbers))
        return {"closeness": float(1.0 - np.tanh(np.linalg.norm(way) / 0.1))}

    def next_move(self, sight: Sight) -> Move:
        """Wait at the same place whatever the cue, then touch; between two presses, go up.

        What is to be remembered is said over and over while the expert waits.
        """
        name = self._wanted(sight.numbers)
        if not sight.numbers[IS_GO]:
            what = f"wait to {self._in_words(sight, name)}"
            if self._level == 3:
                what = f"watch the lamp, {int(sight.numbers[FLASHES])} so far"
            return Move(what=what, place=WAITING, opening=skills.CLOSED)
        if sight.numbers[DOWN]:
            up = skills.above(sight.place("button"), RAISED)
            return Move(what=f"let the button go, {_to_go(sight.numbers)}", place=up, opening=skills.CLOSED)
        return skills.touch(sight, name, self._in_words(sight, name), height=0.02)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The cue has not been seen."""
        return sight.with_numbers(np.array([generator.integers(3), *sight.numbers[1:]], np.float64))

    def _wanted(self, numbers: np.ndarray) -> str:
        """What has to be touched next."""
        if self._level == 3:
            return "button" if numbers[PRESSES] <= numbers[CUE] else "end"
        return self._choices[int(numbers[CUE])]

    def _in_words(self, sight: Sight, name: str) -> str:
        """What is touched, by what can be seen of it."""
        if self._level == 1:
            return f"touch the {name} pad"
        if self._level == 2:
            return f"touch the {name}"
        if name == "end":
            return "touch the black button"
        return f"press the yellow button, {_to_go(sight.numbers)}"

    def _show_choices(self, world: World, goal: Goal) -> None:
        for name, place in zip(self._choices, goal.numbers[PLACES:].reshape(-1, 2), strict=True):
            world.place(name, (*place, SIZE))

    def _light(self, world: World, goal: Goal, step: int) -> None:
        """Light the lamp as it has to be after a step, and count its flashes."""
        cue, color = int(goal.numbers[CUE]), DARK
        number, since = divmod(step, 2 * FLASH_STEPS)
        if goal.numbers[IS_GO]:
            color = GO
        elif self._level == 1 and step < CUE_STEPS:
            color = COLORS[PADS[cue]]
        elif self._level == 3 and number <= cue and since < FLASH_STEPS:
            color = COLORS["yellow"]
            goal.numbers[FLASHES] = number + 1
        world.paint("lamp", color)


def _to_go(numbers: np.ndarray) -> str:
    """How often the button is still to be pressed: words that cannot be said without the cue."""
    return f"{int(numbers[CUE] + 1 - numbers[PRESSES])} to go"


def _count(numbers: np.ndarray, from_button: float, from_end: float) -> Verdict:
    """Count a press of the button once it has been held; the end ends it, and so does a press too many."""
    is_touched, is_down = from_button <= TOUCHED, numbers[DOWN] > 0
    numbers[HELD] = numbers[HELD] + 1 if is_touched and not is_down else 0
    if numbers[HELD] == skills.HOLD:
        numbers[PRESSES] += 1
        is_down = True
    numbers[DOWN] = STAYS_DOWN if is_touched and is_down else max(numbers[DOWN] - 1, 0)
    wanted = numbers[CUE] + 1
    if numbers[PRESSES] > wanted:
        return Verdict.FAILURE
    if from_end > TOUCHED:
        return Verdict.RUNNING
    return Verdict.SUCCESS if numbers[PRESSES] == wanted else Verdict.FAILURE
