"""Reasoning: who is meant has to be worked out from the words and the scene together.

Left and right are the robot's own: +y is left. In front of a thing is the side of the robot, behind it the
far one. Sub-goals say the steps of the reasoning, one after another, up to what is done about it: "find the
red cube; touch the pin left of it".
"""

import abc
from dataclasses import dataclass, replace

import numpy as np

from envs import skills
from envs.tabletop import HIGH, LOW, World, scatter
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, FLAT, Thing

HUES = ("red", "green", "blue", "yellow")
RELATIONS = {
    "left of": (0.0, 0.048),
    "right of": (0.0, -0.048),
    "behind": (0.048, 0.0),
    "in front of": (-0.048, 0.0),
}
"""Where a thing is that stands so to another one: x and y in metres."""

PIN, SIZE, PLATE = 0.012, 0.0125, 0.03
TOUCHED = 0.03
"""So near the middle of a thing, in metres, the point between closed jaws touches it."""
MOVED, ON = 0.035, 0.025
"""Metres from where a thing stood, from which on it has been moved; and from a plate's middle, within which
it is on the plate."""
PLACING_LOW, PLACING_HIGH, PLACING_APART = (0.19, -0.07), (0.28, 0.07), 0.066
"""Where things are placed to be put on plates, which lie on both sides, and how far apart, in metres."""
AWAY = 0.03
"""The gripper has let go of a thing that is so far from the point between its jaws."""

ANSWER, WHERE, FIRST, SECOND, THOUGHT, PLACES = range(6)
"""Of a goal's numbers: which candidate and which plate are meant; what the sub-goals call them; which of
THOUGHTS leads there; from PLACES on, where the candidates stood at first, x and y."""

THOUGHTS = (
    "",
    *(f"find the {hue} cube; " for hue in HUES),
    *(f"there is one {hue} cube; " for hue in HUES),
    *(f"there are two {hue} cubes; " for hue in HUES),
)
"""What is to be seen before it is clear who is meant."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """form: of the sentence; first, second: of its words, as numbers."""

    form: int
    first: int
    second: int


def is_held_out(first: int, second: int) -> bool:
    """Whether the combination of two words is kept from learning; each of them occurs in others."""
    return (first + second) % 4 == 0


def _draw(
    generator: np.random.Generator,
    forms: int,
    first: int,
    second: int,
    held_out: bool,
    *,
    may_repeat: bool = True,
) -> Question:
    """Draw one of the split's combinations, all alike; may_repeat: whether both words may be the same."""
    while True:
        question = Question(
            form=int(generator.integers(forms)),
            first=int(generator.integers(first)),
            second=int(generator.integers(second)),
        )
        is_of_split = is_held_out(question.first, question.second) == held_out
        if is_of_split and (may_repeat or question.first != question.second):
            return question


def _other(generator: np.random.Generator, taken: int) -> int:
    """Draw a color that is not taken."""
    return (taken + int(generator.integers(1, len(HUES)))) % len(HUES)


class Touching(Task):
    """Touch the one that is meant; what is touched first counts.

    candidates: names of the things that can be meant.
    """

    candidates: tuple[str, ...]
    goal_size = PLACES
    steps = 150

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """What is touched first counts."""
        distances = {name: float(np.linalg.norm(world.pinch() - world.position(name))) for name in self.names}
        touched = min(distances, key=distances.__getitem__)
        if distances[touched] > TOUCHED:
            return Verdict.RUNNING
        return Verdict.SUCCESS if touched == self._meant(goal.numbers) else Verdict.FAILURE

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to the thing that is meant."""
        return _closeness(world, self._meant(goal.numbers))

    def next_move(self, sight: Sight) -> Move:
        """Down on the thing that is meant."""
        what = f"{THOUGHTS[int(sight.numbers[THOUGHT])]}touch the {self._called(sight.numbers)}"
        return skills.touch(sight, self._meant(sight.numbers), what, height=0.018)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The instruction is not heard: any candidate."""
        guess = generator.integers(len(self.candidates))
        return sight.with_numbers(np.array([guess, *sight.numbers[1:]], np.float64))

    def _meant(self, numbers: np.ndarray) -> str:
        return self.candidates[int(numbers[ANSWER])]

    @abc.abstractmethod
    def _called(self, numbers: np.ndarray) -> str:
        """What sub-goals call the thing that is meant."""


class Relations(Touching):
    """Touch the white pin that stands left of, right of, behind or in front of the cube of a color.

    Two cubes of different colors have two pins each. The pin that is touched first counts; so does a cube.
    """

    candidates = ("first pin", "second pin", "third pin", "fourth pin")
    things = (
        Thing(name="this cube", shape="cube", size=SIZE, is_fixed=True),
        Thing(name="other cube", shape="cube", size=SIZE, is_fixed=True),
        *(
            Thing(name=name, shape="cylinder", size=PIN, color=COLORS["white"], is_fixed=True)
            for name in candidates
        ),
    )

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of relation and color are those kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Ask, then arrange: which pin is meant has nothing to do with where it is."""
        question = _draw(generator, 3, len(RELATIONS), len(HUES), self._held_out)
        relation, hue = list(RELATIONS)[question.first], HUES[question.second]
        world.paint("this cube", COLORS[hue])
        world.paint("other cube", COLORS[HUES[_other(generator, question.second)]])
        way = np.array(RELATIONS[relation])
        across = np.abs(way[::-1]) / np.abs(way).max() * generator.choice((-1.0, 1.0))
        middle = generator.uniform((0.22, -0.03), (0.24, 0.03))
        apart = 0.036 if way[1] else 0.055
        pins = list(generator.permutation(4))
        for cube, side in (("this cube", 1.0), ("other cube", -1.0)):
            place = middle + side * apart * across + generator.uniform(-0.004, 0.004, 2)
            world.place(cube, (*place, SIZE))
            for sign in (1.0, -1.0):
                pin = pins[0 if (cube, sign) == ("this cube", 1.0) else -1]
                pins.remove(pin)
                world.place(self.candidates[pin], (*(place + sign * way), PIN))
                if (cube, sign) == ("this cube", 1.0):
                    answer = float(pin)
        form = (
            "touch the white pin {} the {} cube",
            "find the {1} cube and touch the pin {0} it",
            "there is a pin {} the {} cube: touch it",
        )[question.form]
        thought = THOUGHTS.index(f"find the {hue} cube; ")
        numbers = np.array([answer, 0.0, question.first, 0.0, thought])
        return Goal(instruction=form.format(relation, hue), numbers=numbers)

    def _called(self, numbers: np.ndarray) -> str:
        return f"pin {list(RELATIONS)[int(numbers[FIRST])]} it"


CUBES = ("first cube", "second cube", "third cube", "fourth cube")
SIDES = ("right", "left")
APART, BEHIND = 0.06, 0.02
"""Metres between any two cubes, and along y between any cube and the next one to its side."""


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """Which of four cubes is meant.

    text: as a part of a sentence; hues: (4,) numbers of the cubes' colors; answer: the number of the cube
    that is meant, the only one of its color; word: the last of the colors that make up the question; thought:
    one of THOUGHTS.
    """

    text: str
    hues: tuple[int, ...]
    answer: int
    word: int
    thought: str = ""


def _negation(generator: np.random.Generator, held_out: bool, places: np.ndarray) -> Puzzle:
    """The cube that is of neither color; of one of these there are two."""
    question = _draw(generator, 2, len(HUES), len(HUES), held_out, may_repeat=False)
    this, that = question.first, question.second
    meant = int(generator.choice([hue for hue in range(len(HUES)) if hue not in (this, that)]))
    hues = tuple(
        int(hue) for hue in generator.permutation([meant, this, that, generator.choice([this, that])])
    )
    text = ("the cube that is neither {} nor {}", "the cube that is not {}, and not {} either")[question.form]
    return Puzzle(
        text=text.format(HUES[this], HUES[that]), hues=hues, answer=hues.index(meant), word=question.second
    )


def _order(generator: np.random.Generator, held_out: bool, places: np.ndarray) -> Puzzle:
    """The next cube to a side of the one of a color."""
    question = _draw(generator, 2, len(SIDES), len(HUES), held_out)
    from_right = [int(cube) for cube in np.argsort(places[:, 1])]
    rank = int(generator.integers(3)) + (question.first == SIDES.index("right"))
    named, answer = from_right[rank], from_right[rank + (-1, 1)[question.first]]
    hues = [int(hue) for hue in generator.permutation(len(HUES))]
    other = hues.index(question.second)
    hues[named], hues[other] = hues[other], hues[named]
    text = ("the next cube to the {} of the {} one", "what comes next on the {} of the {} cube")[
        question.form
    ]
    return Puzzle(
        text=text.format(SIDES[question.first], HUES[question.second]),
        hues=tuple(hues),
        answer=answer,
        word=question.second,
        thought=f"find the {HUES[question.second]} cube; ",
    )


def _count(generator: np.random.Generator, held_out: bool, places: np.ndarray) -> Puzzle:
    """The cube of one color if there are two of another, the cube of a third color if there are not."""
    question = _draw(generator, 2, len(HUES), len(HUES), held_out, may_repeat=False)
    counted, then = question.first, question.second
    otherwise, fourth = generator.permutation([hue for hue in range(len(HUES)) if hue not in (counted, then)])
    are_two = bool(generator.integers(2))
    seen = [counted, then, otherwise, counted if are_two else fourth]
    hues = tuple(int(hue) for hue in generator.permutation(seen))
    text = (
        "the {1} cube if there are two {0} ones, else the {2} one",
        "the {2} cube unless there are two {0} ones, then the {1} one",
    )[question.form]
    return Puzzle(
        text=text.format(HUES[counted], HUES[then], HUES[int(otherwise)]),
        hues=hues,
        answer=hues.index(then if are_two else int(otherwise)),
        word=then,
        thought=f"there {'are two' if are_two else 'is one'} {HUES[counted]} cube{'s' * are_two}; ",
    )


PUZZLES = (_negation, _order, _count)


def _puzzle(
    world: World,
    generator: np.random.Generator,
    held_out: bool,
    low: tuple[float, float],
    high: tuple[float, float],
    apart: float,
) -> tuple[Puzzle, np.ndarray]:
    """Set up four cubes somewhere between low and high, and ask for one: the puzzle and places (4, 2)."""
    while True:
        places = scatter(generator, len(CUBES), apart, low, high)
        if np.diff(np.sort(places[:, 1])).min() >= BEHIND:
            break
    puzzle = PUZZLES[int(generator.integers(len(PUZZLES)))](generator, held_out, places)
    for name, hue, place in zip(CUBES, puzzle.hues, places, strict=True):
        world.paint(name, COLORS[HUES[hue]])
        world.place(name, (*place, SIZE), generator.uniform(-np.pi / 4, np.pi / 4))
    return puzzle, places


class Choosing(Touching):
    """Touch one of four cubes: by negation, by order or by counting.

    The one that is touched first counts.
    """

    candidates = CUBES
    things = tuple(Thing(name=name, shape="cube", size=SIZE, is_fixed=True) for name in CUBES)

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of a question's words are those kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Arrange, then ask."""
        puzzle, _ = _puzzle(world, generator, self._held_out, LOW, HIGH, APART)
        form = ("touch {}", "bring the gripper to {}")[int(generator.integers(2))]
        thought = THOUGHTS.index(puzzle.thought)
        numbers = np.array([puzzle.answer, 0, puzzle.hues[puzzle.answer], 0, thought], np.float64)
        return Goal(instruction=form.format(puzzle.text), numbers=numbers)

    def _called(self, numbers: np.ndarray) -> str:
        return f"{HUES[int(numbers[FIRST])]} cube"


class Placing(Task):
    """Put one of four cubes, by negation, order or counting, on the plate of a color.

    A wrong cube that is moved, or the right one let go on the wrong plate, ends the episode.
    """

    plates = ("this plate", "other plate")
    things = (
        *(Thing(name=name, shape="cube", size=SIZE) for name in CUBES),
        *(Thing(name=name, shape="plate", size=PLATE, is_fixed=True, is_solid=False) for name in plates),
    )
    goal_size = PLACES + 2 * len(CUBES)
    steps = 300

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of a question's color and the plate's are kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Arrange, then ask."""
        puzzle, places = _puzzle(world, generator, False, PLACING_LOW, PLACING_HIGH, PLACING_APART)
        plate = next(
            int(hue)
            for hue in generator.permutation(len(HUES))
            if is_held_out(puzzle.word, int(hue)) == self._held_out
        )
        side = generator.choice((-1.0, 1.0))
        other = _other(generator, plate)
        for name, color, sign in zip(self.plates, (plate, other), (side, -side), strict=True):
            world.paint(name, COLORS[HUES[color]])
            world.place(name, (generator.uniform(0.19, 0.25), sign * 0.115, FLAT))
        form = ("on the {0} plate goes {1}", "the {0} plate is for {1}")[int(generator.integers(2))]
        asked = (puzzle.answer, 0, puzzle.hues[puzzle.answer], plate, THOUGHTS.index(puzzle.thought))
        numbers = np.array([*asked, *places.ravel()], np.float64)
        return Goal(instruction=form.format(HUES[plate], puzzle.text), numbers=numbers)

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """The right cube lies on the right plate, no other one has been moved."""
        starts = goal.numbers[PLACES:].reshape(-1, 2)
        answer = int(goal.numbers[ANSWER])
        here = np.array([world.position(name) for name in CUBES])
        moved = np.linalg.norm(here[:, :2] - starts, axis=1) > MOVED
        if np.any(np.delete(moved, answer)):
            return Verdict.FAILURE
        is_let_go = np.linalg.norm(world.pinch() - here[answer]) > AWAY and here[answer, 2] < 1.5 * SIZE
        if not is_let_go:
            return Verdict.RUNNING
        for index, name in enumerate(self.plates):
            if np.linalg.norm(here[answer, :2] - world.position(name)[:2]) < ON:
                return Verdict.SUCCESS if index == goal.numbers[WHERE] else Verdict.FAILURE
        return Verdict.RUNNING

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to the cube that is meant, and that to its plate."""
        name = CUBES[int(goal.numbers[ANSWER])]
        way = world.position(name) - world.position(self.plates[int(goal.numbers[WHERE])])
        nearness = _closeness(world, name)["closeness"]
        return {
            "closeness": nearness / 2,
            "to the plate": float(1.0 - np.tanh(np.linalg.norm(way) / 0.1)) / 2,
        }

    def next_move(self, sight: Sight) -> Move:
        """Pick it up and put it there."""
        name = CUBES[int(sight.numbers[ANSWER])]
        hue, plate = HUES[int(sight.numbers[FIRST])], HUES[int(sight.numbers[SECOND])]
        place = skills.above(sight.place(self.plates[int(sight.numbers[WHERE])]), SIZE)
        move = skills.put(sight, name, place, f"the {hue} cube", f"the {plate} plate")
        is_clear = not move.what.startswith("reach for")
        return move if is_clear else replace(move, what=THOUGHTS[int(sight.numbers[THOUGHT])] + move.what)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The instruction is not heard: any cube, either plate."""
        guess = (generator.integers(4), generator.integers(2))
        return sight.with_numbers(np.array([*guess, *sight.numbers[2:]], np.float64))


KINDS = {1: Relations, 2: Choosing, 3: Placing}


def reasoning(level: int, held_out: bool) -> Task:
    """Return the task of a level: relations; negation, order and counting; these, and a cube to be placed.

    held_out: combinations of known words that are not among those to learn from.
    """
    return KINDS[level](held_out=held_out)


def _closeness(world: World, name: str) -> dict[str, float]:
    way = float(np.linalg.norm(world.pinch() - world.position(name)))
    return {"closeness": float(1.0 - np.tanh(way / 0.1))}
