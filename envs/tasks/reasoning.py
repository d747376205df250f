"""Reasoning: who is meant has to be worked out from the words and the scene together.

Left and right are the robot's own: +y is left. In front of a thing is the side of the robot, behind it the
far one.
"""

from dataclasses import dataclass

import numpy as np

from envs import skills
from envs.tabletop import World, scatter
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, FLAT, Thing

HUES = ("red", "green", "blue", "yellow")
SHAPES = ("cube", "cylinder", "cross")
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
PLACING_LOW, PLACING_HIGH = (0.19, -0.07), (0.28, 0.07)
"""Where things are placed to be put on plates, which lie on both sides of it."""
AWAY = 0.03
"""The gripper has let go of a thing that is so far from the point between its jaws."""

ANSWER, WHERE, FIRST, SECOND, PLACES = range(5)
"""Of a goal's numbers: which candidate and which plate are meant; what the sub-goals call them; from PLACES
on, where the candidates stood at first, x and y."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """form: of the sentence; first, second: of its words, as numbers."""

    form: int
    first: int
    second: int

    def is_held_out(self) -> bool:
        """Whether the combination is kept from learning; each of its words occurs in others."""
        return (self.first + self.second) % 4 == 0


def _draw(generator: np.random.Generator, forms: int, first: int, second: int, held_out: bool) -> Question:
    """Draw one of the split's combinations, all alike."""
    while True:
        question = Question(
            form=int(generator.integers(forms)),
            first=int(generator.integers(first)),
            second=int(generator.integers(second)),
        )
        if question.is_held_out() == held_out:
            return question


def _other(generator: np.random.Generator, count: int, taken: int) -> int:
    """Draw a number below `count` that is not taken."""
    return (taken + int(generator.integers(1, count))) % count


class Relations(Task):
    """Touch the white pin that stands left of, right of, behind or in front of the cube of a color.

    Two cubes of different colors have two pins each. The pin that is touched first counts; so does a cube.
    """

    names_of_pins = ("first pin", "second pin", "third pin", "fourth pin")
    things = (
        Thing(name="this cube", shape="cube", size=SIZE, is_fixed=True),
        Thing(name="other cube", shape="cube", size=SIZE, is_fixed=True),
        *(
            Thing(name=name, shape="cylinder", size=PIN, color=COLORS["white"], is_fixed=True)
            for name in names_of_pins
        ),
    )
    goal_size = PLACES
    steps = 150

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of relation and color are those kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Ask, then arrange: which pin is meant has nothing to do with where it is."""
        question = _draw(generator, 3, len(RELATIONS), len(HUES), self._held_out)
        relation, hue = list(RELATIONS)[question.first], HUES[question.second]
        world.paint("this cube", COLORS[hue])
        world.paint("other cube", COLORS[HUES[_other(generator, len(HUES), question.second)]])
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
                world.place(self.names_of_pins[pin], (*(place + sign * way), PIN))
                if (cube, sign) == ("this cube", 1.0):
                    answer = float(pin)
        form = (
            "touch the white pin {} the {} cube",
            "find the {1} cube and touch the pin {0} it",
            "there is a pin {} the {} cube: touch it",
        )[question.form]
        numbers = np.array([answer, 0.0, question.first, question.second])
        return Goal(instruction=form.format(relation, hue), numbers=numbers)

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """What is touched first counts."""
        return _judge_touch(world, self.names, self.names_of_pins[int(goal.numbers[ANSWER])])

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to the pin that is meant."""
        return _closeness(world, self.names_of_pins[int(goal.numbers[ANSWER])])

    def next_move(self, sight: Sight) -> Move:
        """Down on the pin that is meant."""
        relation, hue = list(RELATIONS)[int(sight.numbers[FIRST])], HUES[int(sight.numbers[SECOND])]
        name = self.names_of_pins[int(sight.numbers[ANSWER])]
        return skills.touch(sight, name, f"touch the pin {relation} the {hue} cube", height=0.018)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The instruction is not heard: any pin."""
        return sight.with_numbers(np.array([generator.integers(4), *sight.numbers[1:]], np.float64))


class Negation(Task):
    """Touch the thing of a shape that is not of a color, or of a color but not of a shape.

    Four things stand anywhere: two colors times two shapes. The one that is touched first counts.
    """

    things = tuple(
        Thing(name=f"{which} {shape}", shape=shape, size=SIZE, is_fixed=True)
        for shape in SHAPES
        for which in ("this", "other")
    )
    goal_size = PLACES
    steps = 150

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of shape and color are those kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Ask, then arrange."""
        question = _draw(generator, 4, len(SHAPES), len(HUES), self._held_out)
        shape, hue = question.first, question.second
        other_shape, other_hue = _other(generator, len(SHAPES), shape), _other(generator, len(HUES), hue)
        for name in self.names:
            world.hide(name)
        places = iter(scatter(generator, 4, 0.06))
        for kind in (shape, other_shape):
            for which, color in (("this", hue), ("other", other_hue)):
                name = f"{which} {SHAPES[kind]}"
                world.paint(name, COLORS[HUES[color]])
                world.place(name, (*next(places), SIZE), generator.uniform(-np.pi / 4, np.pi / 4))
        is_color = question.form < 2
        answer = f"other {SHAPES[shape]}" if is_color else f"this {SHAPES[other_shape]}"
        form = (
            "touch the {0} that is not {1}",
            "touch the {0}, but not the {1} one",
            "touch the {1} thing that is not a {0}",
            "touch what is {1} and no {0}",
        )[question.form]
        named = (shape, other_hue) if is_color else (other_shape, hue)
        numbers = np.array([self.names.index(answer), 0.0, *named], np.float64)
        return Goal(instruction=form.format(SHAPES[shape], HUES[hue]), numbers=numbers)

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """What is touched first counts."""
        return _judge_touch(world, self.names, self.names[int(goal.numbers[ANSWER])])

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to the thing that is meant."""
        return _closeness(world, self.names[int(goal.numbers[ANSWER])])

    def next_move(self, sight: Sight) -> Move:
        """Down on the thing that is meant."""
        shape, hue = SHAPES[int(sight.numbers[FIRST])], HUES[int(sight.numbers[SECOND])]
        name = self.names[int(sight.numbers[ANSWER])]
        return skills.touch(sight, name, f"touch the {hue} {shape}", height=0.018)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The instruction is not heard: any thing in sight."""
        seen = [index for index, name in enumerate(self.names) if sight.place(name)[2] > 0.0]
        return sight.with_numbers(np.array([generator.choice(seen), *sight.numbers[1:]], np.float64))


class Placing(Task):
    """Put the thing of a shape that is not of a color on the plate of a color.

    Two cubes and two cylinders of two colors, two plates. A wrong thing that is moved, or the right one let
    go on the wrong plate, ends the episode.
    """

    movable = ("this cube", "other cube", "this cylinder", "other cylinder")
    plates = ("this plate", "other plate")
    things = (
        *(Thing(name=name, shape=name.split()[1], size=SIZE) for name in movable),
        *(Thing(name=name, shape="plate", size=PLATE, is_fixed=True, is_solid=False) for name in plates),
    )
    goal_size = PLACES + 8
    steps = 300

    def __init__(self, *, held_out: bool) -> None:
        """held_out: whether combinations of thing's and plate's colors are those kept from learning."""
        self._held_out = held_out

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Ask, then arrange."""
        question = _draw(generator, 4, len(HUES), len(HUES), self._held_out)
        hue, plate = question.first, question.second
        other_hue, other_plate = _other(generator, len(HUES), hue), _other(generator, len(HUES), plate)
        kind = ("cube", "cylinder")[question.form % 2]
        places = scatter(generator, 4, 0.066, PLACING_LOW, PLACING_HIGH)
        for name, place in zip(self.movable, places, strict=True):
            world.paint(name, COLORS[HUES[hue if name.startswith("this") else other_hue]])
            world.place(name, (*place, SIZE), generator.uniform(-np.pi / 4, np.pi / 4))
        side = generator.choice((-1.0, 1.0))
        for name, color, sign in zip(self.plates, (plate, other_plate), (side, -side), strict=True):
            world.paint(name, COLORS[HUES[color]])
            world.place(name, (generator.uniform(0.19, 0.25), sign * 0.115, FLAT))
        form = (
            "put the {0} that is not {1} on the {2} plate",
            "on the {2} plate goes the {0}, but not the {1} one",
        )[question.form // 2]
        numbers = np.array([self.movable.index(f"other {kind}"), 0.0, other_hue, plate, *places.ravel()])
        return Goal(instruction=form.format(kind, HUES[hue], HUES[plate]), numbers=numbers)

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """The right thing lies on the right plate, no other one has been moved."""
        starts = goal.numbers[PLACES:].reshape(-1, 2)
        answer = int(goal.numbers[ANSWER])
        here = np.array([world.position(name) for name in self.movable])
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
        """How near the gripper is to the thing that is meant, and that to its plate."""
        name = self.movable[int(goal.numbers[ANSWER])]
        way = world.position(name) - world.position(self.plates[int(goal.numbers[WHERE])])
        nearness = _closeness(world, name)["closeness"]
        return {
            "closeness": nearness / 2,
            "to the plate": float(1.0 - np.tanh(np.linalg.norm(way) / 0.1)) / 2,
        }

    def next_move(self, sight: Sight) -> Move:
        """Pick it up and put it there."""
        name = self.movable[int(sight.numbers[ANSWER])]
        hue, plate = HUES[int(sight.numbers[FIRST])], HUES[int(sight.numbers[SECOND])]
        place = skills.above(sight.place(self.plates[int(sight.numbers[WHERE])]), SIZE)
        return skills.put(sight, name, place, f"the {hue} {name.split()[1]}", f"the {plate} plate")

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The instruction is not heard: any thing, either plate."""
        guess = (generator.integers(4), generator.integers(2))
        return sight.with_numbers(np.array([*guess, *sight.numbers[2:]], np.float64))


KINDS = {1: Relations, 2: Negation, 3: Placing}


def reasoning(level: int, held_out: bool) -> Task:
    """Return the task of a level: relations, negation, and both what and where with a thing to be placed.

    held_out: combinations of known words that are not among those to learn from.
    """
    return KINDS[level](held_out=held_out)


def _judge_touch(world: World, names: tuple[str, ...], meant: str) -> Verdict:
    distances = {name: float(np.linalg.norm(world.pinch() - world.position(name))) for name in names}
    touched = min(distances, key=distances.__getitem__)
    if distances[touched] > TOUCHED:
        return Verdict.RUNNING
    return Verdict.SUCCESS if touched == meant else Verdict.FAILURE


def _closeness(world: World, name: str) -> dict[str, float]:
    way = float(np.linalg.norm(world.pinch() - world.position(name)))
    return {"closeness": float(1.0 - np.tanh(way / 0.1))}
