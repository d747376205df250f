"""Planning: a cube into a box and the lid closed, by stages of which each is possible only after others.

The orange button, held for a moment, opens the glass lid, and the next time closes it. A button on which
something stands cannot be pressed, under a closed lid there is no way into the box, and a box that holds
anything else is not as it was asked for. Which stages there are follows from what is seen; nobody says so.
"""

from collections.abc import Callable

import numpy as np

from envs import skills
from envs.tabletop import World
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, FLAT, Thing

SIZE = 0.012
BOX_SIZE = 0.036
BOX_X, BOX_Y = 0.23, 0.105
"""The box lies on the left or on the right, metres from the middle."""
SLOTS = np.array(((0.0, -0.018, SIZE), (0.0, 0.018, SIZE)))
"""Where cubes come to lie, from the middle of the box, in metres: side by side, for jaws open lengthwise."""
LID_HEIGHT, LID_STEPS = 0.034, 12
"""A closed lid's height, and in how many control steps it opens or closes."""
LID_AWAY = np.array((0.085, 0.0, 0.003 - LID_HEIGHT))
"""How far an open lid lies from a closed one."""
ROWS, COLUMNS, JITTER = (0.19, 0.262), (-0.11, -0.04, 0.03), 0.008
"""Places on the free part of the table, x and y where the box is on the left, in metres."""
TOUCHED, LEFT, COVERED = 0.03, 0.05, 0.03
"""Metres from the button's middle: so near the point between the jaws touches it, until LEFT; a thing so near
beside it covers it."""
HELD = COLORS["white"]
"""The button's color while it is held down, so that a press can be seen."""

GONE = 0.045
"""Metres between the jaws and a cube that has been let go."""

TARGETS = ("red", "blue", "yellow", "green")
FIRST, SECOND, BLOCKER, OCCUPANT = "first cube", "second cube", "black cube", "white cube"


def _cube(name: str, color: str) -> Thing:
    return Thing(name=name, shape="cube", size=SIZE, color=COLORS[color])


CUBES = (_cube(FIRST, "red"), _cube(SECOND, "blue"), _cube(BLOCKER, "black"), _cube(OCCUPANT, "white"))
FURNITURE = (
    Thing(name="box", shape="pad", size=BOX_SIZE, color=COLORS["purple"], is_fixed=True, is_solid=False),
    Thing(name="lid", shape="pad", size=BOX_SIZE, color=(0.75, 0.9, 0.95), alpha=0.45, is_fixed=True),
    Thing(name="button", shape="pad", size=0.016, color=COLORS["orange"], is_fixed=True, is_solid=False),
)

STAGES = ("clear", "open", "take out", "place", "place another", "close")
CLEAR, OPEN, TAKE_OUT, PLACE, PLACE_ANOTHER, CLOSE = range(len(STAGES))
MOVED = {CLEAR: BLOCKER, TAKE_OUT: OCCUPANT, PLACE: FIRST, PLACE_ANOTHER: SECOND}
"""The cube that a stage is about."""
PLANS = {1: (OPEN, PLACE, CLOSE), 2: (CLEAR, OPEN, PLACE, CLOSE), 3: (CLEAR, OPEN, TAKE_OUT, PLACE, CLOSE)}
"""The stages of each level in the only order that is possible; those held out place another cube as well."""

IS_OPEN, LID, TOUCHES, HUES, ASIDE = 0, 1, 2, 3, 5
"""Of a goal's numbers: whether the lid is to be open; its way from closed, 0, to open, 1; for how many steps
the button has been touched, HOLD of which press it; colors of the first and the second cube; from ASIDE on, x
and y of two free places and of where the second cube lay. The rest is a plan: the stages as they are to be
followed."""
PLAN = ASIDE + 6

ONE = (
    "put the {first} cube into the box and close the lid",
    "leave nothing but the {first} cube in the closed box",
    "the {first} cube, and it alone, belongs in the box with the lid closed",
)
BOTH = (
    "put the {first} and the {second} cube into the box and close the lid",
    "leave nothing but the {first} and the {second} cube in the closed box",
)
PICTURED = ("make it look like the picture of the goal", "bring everything to where the picture shows it")


class Planning(Task):
    """Clear the button, open the lid, empty the box, place the cube, close the lid.

    Level 1: open, place, close; level 2: the button has to be cleared first; level 3: the box has to be
    emptied as well. Held out: a second cube has to be placed, one stage more.
    """

    def __init__(self, level: int, held_out: bool, *, is_pictured: bool = False) -> None:
        """level: 1 to 3; is_pictured: what is asked for is shown (camera `goal`) and not said."""
        self._plan = PLANS[level][:-1] + ((PLACE_ANOTHER,) if held_out else ()) + (CLOSE,)
        self._is_pictured = self.has_goal_picture = is_pictured
        self._cubes = CUBES[: level + 1]
        self._wanted = (FIRST, SECOND) if held_out else (FIRST,)
        self.things = (*FURNITURE, *self._cubes)
        self.goal_size = PLAN + len(self._plan)
        self.steps = 120 + 120 * len(self._plan)

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Lay everything out; the lid is closed."""
        side = 1.0 if generator.integers(2) else -1.0
        cells = np.array([(x, y) for x in ROWS for y in COLUMNS])[generator.permutation(6)]
        cells = (cells + generator.uniform(-JITTER, JITTER, cells.shape)) * (1.0, side)
        button, first, second, *aside = cells[:5]
        hues = generator.permutation(len(TARGETS))[:2]
        colors = [TARGETS[hue] for hue in hues]
        texts = PICTURED if self._is_pictured else BOTH if SECOND in self._wanted else ONE
        text = texts[int(generator.integers(len(texts)))]
        box = np.array((BOX_X, side * BOX_Y, FLAT))
        slots = SLOTS[generator.permutation(len(SLOTS))]
        world.place("box", box)
        world.place("button", (*button, FLAT))
        world.paint("button", COLORS["orange"])
        places = {FIRST: first, SECOND: second, BLOCKER: button, OCCUPANT: (box + slots[0])[:2]}
        for cube in self._cubes:
            world.place(cube.name, (*places[cube.name], SIZE))
        for name, color in zip((FIRST, SECOND), colors, strict=True):
            world.paint(name, COLORS[color])
        _put_lid(world, 0.0)
        return Goal(
            instruction=text.format(first=colors[0], second=colors[1]),
            numbers=np.array([0, 0, 0, *hues, *np.ravel(aside), *second, *self._plan], np.float64),
        )

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """A press counts once the button is held; the last closes the lid over the right cubes."""
        numbers = goal.numbers
        if numbers[LID] != numbers[IS_OPEN]:
            numbers[LID] = np.clip(numbers[LID] + (2 * numbers[IS_OPEN] - 1) / LID_STEPS, 0.0, 1.0)
            _put_lid(world, float(numbers[LID]))
        self._feel(world, numbers)
        if numbers[TOUCHES] != skills.HOLD:
            return Verdict.RUNNING
        numbers[IS_OPEN] = 1.0 - numbers[IS_OPEN]
        return Verdict.SUCCESS if not numbers[IS_OPEN] and self._is_right(world) else Verdict.RUNNING

    def _feel(self, world: World, numbers: np.ndarray) -> None:
        """Count for how long the button has been touched; once it is down, until the gripper has left it."""
        distance = float(np.linalg.norm(world.pinch() - world.position("button")))
        is_down = numbers[TOUCHES] >= skills.HOLD
        is_free = is_down or not _is_covered(self._names(), world.position)
        is_touched = is_free and distance < (LEFT if is_down else TOUCHED)
        numbers[TOUCHES] = numbers[TOUCHES] + 1 if is_touched else 0
        world.paint("button", HELD if numbers[TOUCHES] >= skills.HOLD else COLORS["orange"])

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """The share of the cubes that are where they should be, and whether the lid is as it has to be."""
        box = world.position("box")
        right = [_is_in(box, world.position(name)) == (name in self._wanted) for name in self._names()]
        is_open = bool(goal.numbers[IS_OPEN])
        return {"cubes": 0.8 * sum(right) / len(right), "lid": 0.2 * float(is_open != all(right))}

    def arrange_goal(self, world: World, goal: Goal) -> None:
        """Show the wanted cubes in the closed box and the others beside it."""
        beside: dict[str, np.ndarray] = dict(
            zip((BLOCKER, OCCUPANT, SECOND), _places(goal.numbers), strict=True)
        )
        in_box = dict(zip(self._wanted, world.position("box") + SLOTS, strict=False))
        for name in self._names():
            world.place(name, (beside | in_box)[name])
        _put_lid(world, 0.0)

    def next_move(self, sight: Sight) -> Move:
        """Do the first stage of the plan that is not done."""
        numbers = sight.numbers
        stage = next(int(stage) for stage in numbers[PLAN:] if not self._is_done(int(stage), sight))
        if stage in (OPEN, CLOSE):
            return _press(sight, f"press the button to {STAGES[stage]} the lid")
        name = MOVED[stage]
        if stage in (CLEAR, TAKE_OUT):
            place = _places(numbers)[stage == TAKE_OUT]
            return skills.put(sight, name, place, _called(numbers, name), "a free place")
        if numbers[LID] < 1.0 and numbers[IS_OPEN]:
            over = skills.above(sight.place(name), 2 * skills.OVER)
            return Move(what="wait for the lid", place=over, opening=skills.OPEN)
        return skills.put(sight, name, self._slot(sight, name), _called(numbers, name), "the box")

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The order of the stages is unknown."""
        order = generator.permutation(sight.numbers[PLAN:])
        return sight.with_numbers(np.concatenate([sight.numbers[:PLAN], order]))

    def _names(self) -> tuple[str, ...]:
        """Of the cubes."""
        return tuple(cube.name for cube in self._cubes)

    def _is_right(self, world: World) -> bool:
        """Whether the box holds what it should, and nothing else."""
        box = world.position("box")
        return all(_is_in(box, world.position(name)) == (name in self._wanted) for name in self._names())

    def _is_done(self, stage: int, sight: Sight) -> bool:
        box = sight.place("box")
        if stage == OPEN:
            return bool(sight.numbers[IS_OPEN])
        if stage == CLOSE:
            return False  # the episode ends with it
        name = MOVED[stage]
        if self._at_hand(sight) == name:
            return False
        if stage == CLEAR:
            return not _is_covered((BLOCKER,), sight.place)
        return _is_in(box, sight.place(name)) == (stage != TAKE_OUT)

    def _at_hand(self, sight: Sight) -> str | None:
        """Return the cube that the jaws are still at."""
        away = {name: float(np.linalg.norm(sight.pinch - sight.place(name))) for name in self._names()}
        nearest = min(away, key=away.__getitem__)
        return nearest if away[nearest] < GONE else None

    def _slot(self, sight: Sight, name: str) -> np.ndarray:
        """Return the place in the box that is farther from the cubes that lie in it, (3,) metres."""
        slots = sight.place("box") + SLOTS
        others = [sight.place(other) for other in self._names() if other != name]
        room = [min(float(np.linalg.norm(slot - other)) for other in others) for slot in slots]
        return slots[int(np.argmax(room))]


def _places(numbers: np.ndarray) -> list[np.ndarray]:
    """Return two free places and that of the second cube at first, (3,) metres each."""
    return [np.array((*place, SIZE)) for place in numbers[ASIDE:PLAN].reshape(-1, 2)]


def _called(numbers: np.ndarray, name: str) -> str:
    """Return what sub-goals call a cube."""
    hues = dict(zip((FIRST, SECOND), numbers[HUES:ASIDE], strict=True))
    return f"the {TARGETS[int(hues[name])]} cube" if name in hues else f"the {name}"


def _press(sight: Sight, what: str) -> Move:
    """Come down on the button; a button that is held down has to be let go first."""
    if sight.numbers[TOUCHES] >= skills.HOLD:
        up = skills.above(sight.place("button"), 2 * LEFT)
        return Move(what=what, place=up, opening=skills.CLOSED)
    return skills.touch(sight, "button", what, height=0.02)


def _is_in(box: np.ndarray, place: np.ndarray) -> bool:
    """Whether a cube lies in the box."""
    return bool(np.all(np.abs(place - box)[:2] < BOX_SIZE) and place[2] < 2 * SIZE)


def _is_covered(names: tuple[str, ...], place: Callable[[str], np.ndarray]) -> bool:
    """Whether a cube stands on the button, or is held over it."""
    button = place("button")
    return any(np.linalg.norm((place(name) - button)[:2]) < COVERED for name in names)


def _put_lid(world: World, way: float) -> None:
    """Put the lid so far on its way from closed, 0, to open, 1; nothing gets past it unless it is open."""
    world.place("lid", world.position("box") + (0.0, 0.0, LID_HEIGHT) + way * LID_AWAY)
    world.make_solid("lid", way == 0.0)
