"""Modeling: what a blow does depends on what cannot be seen, but has been shown.

A cart on a rail is let go at a known place and speed and glides until friction stops it; a black pad stays
where that was, and the cart comes back. Then the arm presses one of nine pads, once: the cart gets a blow,
the harder the farther to the left the pad is, and has to come to rest at the red mark. How hard the blow has
to be follows from the friction, and nothing can be put right afterwards.
"""

import numpy as np

from envs import skills
from envs.tabletop import World
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, FLAT, Thing

X, Z, REACH = 0.27, 0.03, 0.16
"""The rail's place and height, and how far the cart goes to both sides along y, in metres."""
BESIDE = X - 0.035
"""Where trace and mark lie beside the rail."""
SIZE, MASS = 0.014, 0.1
START, SHOWN_SPEED = 0.08, 0.25
"""Where the cart is let go to show how it glides, and how fast: metres, and metres per second towards -y."""
BRAKING, HELD_OUT = ((0.33, 0.62),), ((0.3, 0.32), (0.63, 0.66))
"""By how much friction slows the cart down, to learn from and held out, in metres per second squared."""
MEAN_BRAKING = 0.475
GLIDE, GLIDES = 0.106, (0.08, 0.15)
"""How far the cart has to glide on level 1, and on the others as far as the blows allow, in metres."""
TOLERANCE = 0.011
STILL, MOVING = 0.004, 0.05
"""Metres per second."""

BLOWS = np.geomspace(0.0315, 0.07, 9)
"""What the pads give the cart, from the right one to the left: friction's braking times the way that it
glides then, in metres squared per second squared."""
PADS = tuple(f"pad {number}" for number in range(1, len(BLOWS) + 1))
PAD_X, APART, PAD_SIZE = 0.185, 0.024, 0.009
"""Where pads lie, from one to the next along y, and half their side, in metres."""
ABOVE, PRESSED, ASIDE = 0.012, 0.026, 0.02
"""Metres above a pad: where the gripper presses it, and how low it has to be; and along x how near."""
WAITING = np.array((0.17, 0.0, 0.1))

SLOWING, GOAL, SHOWS, PUSHED, PAD, TOUCHES, LATER = range(7)
"""Of a goal's numbers: friction's braking; where the mark is; how often the glide is still to be shown;
whether the cart has got its blow; which pad is touched, and for how many steps; braking from the last show
on."""


def _pad(number: int) -> Thing:
    """Return a pad; their colors go from yellow to purple."""
    share = number / (len(BLOWS) - 1)
    color = tuple((1 - share) * np.array(COLORS["yellow"]) + share * np.array(COLORS["purple"]))
    return Thing(name=PADS[number], shape="pad", size=PAD_SIZE, color=color, is_fixed=True, is_solid=False)


class Modeling(Task):
    """Give a cart of unknown friction the one blow that brings it to a mark.

    Level 1: one mark. Level 2: the mark is anywhere. Level 3: in mid-episode the friction changes; the cart
    glides a second time, which is what counts. If the cart comes to rest elsewhere, the episode has failed.
    Held out: less friction, and more, than any to learn from.
    """

    things = (
        Thing(
            name="cart",
            shape="cube",
            size=SIZE,
            color=COLORS["blue"],
            mass=MASS,
            is_solid=False,
            rail=((X, 0.0, Z), REACH),
        ),
        Thing(name="trace", shape="pad", size=0.01, color=COLORS["black"], is_fixed=True, is_solid=False),
        Thing(name="mark", shape="pad", size=0.012, color=COLORS["red"], is_fixed=True, is_solid=False),
        *(_pad(number) for number in range(len(BLOWS))),
    )
    goal_size = 7
    steps = 260

    def __init__(self, level: int, held_out: bool) -> None:
        """level: 1 to 3."""
        self._level, self._ranges = level, HELD_OUT if held_out else BRAKING

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Let the cart go."""
        now, later = self._draw(generator), self._draw(generator)
        shows = 2 if self._level == 3 else 1
        last = later if shows == 2 else now
        low, high = np.clip(BLOWS[[0, -1]] / last, *GLIDES)
        mark = START - (GLIDE if self._level == 1 else generator.uniform(low, high))
        world.hide("trace")
        world.place("mark", (BESIDE, mark, FLAT))
        for number, pad in enumerate(PADS):
            world.place(pad, (PAD_X, _along(number), FLAT))
        _let_go(world, SHOWN_SPEED, now)
        forms = (
            "press the pad that makes the blue cart stop at the red mark",
            "make the blue cart glide to the red mark",
            "with one blow, send the cart to the red mark",
        )
        return Goal(
            instruction=forms[int(generator.integers(len(forms)))],
            numbers=np.array([now, mark, shows, 0.0, 0.0, 0.0, last]),
        )

    def _draw(self, generator: np.random.Generator) -> float:
        low, high = self._ranges[int(generator.integers(len(self._ranges)))]
        return float(generator.uniform(low, high))

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """Show how the cart glides, then wait for the blow, and for the cart to come to rest."""
        numbers = goal.numbers
        place, speed = world.position("cart")[1], float(world.data.joint("cart").qvel[0])
        if numbers[SHOWS]:
            if abs(speed) < STILL:
                world.place("trace", (BESIDE, place, FLAT))
                numbers[SHOWS] -= 1
                numbers[SLOWING] = numbers[LATER]
                _let_go(world, SHOWN_SPEED if numbers[SHOWS] else 0.0, numbers[SLOWING])
            return Verdict.RUNNING
        if not numbers[PUSHED]:
            _feel(numbers, world.pinch())
            if numbers[TOUCHES] == skills.HOLD:
                numbers[PUSHED] = 1.0
                _let_go(world, float(np.sqrt(2 * BLOWS[int(numbers[PAD])])), numbers[SLOWING])
            return Verdict.RUNNING
        if abs(speed) > STILL:
            return Verdict.RUNNING
        return Verdict.SUCCESS if abs(place - numbers[GOAL]) < TOLERANCE else Verdict.FAILURE

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the cart is to the mark."""
        way = abs(world.position("cart")[1] - goal.numbers[GOAL])
        return {"closeness": float(1.0 - np.tanh(way / 0.1))}

    def next_move(self, sight: Sight) -> Move:
        """Press the pad that friction asks for, which is said from when the cart has shown how it glides."""
        numbers = sight.numbers
        if numbers[SHOWS]:
            return Move(what="watch the cart", place=WAITING, opening=skills.CLOSED)
        if numbers[PUSHED]:
            return Move(what="let the cart glide", place=WAITING, opening=skills.CLOSED)
        blow = numbers[SLOWING] * (START - numbers[GOAL])
        pad = PADS[int(np.argmin(np.abs(np.log(BLOWS / blow))))]
        return skills.touch(sight, pad, f"press {pad}", height=ABOVE)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The glide has not been seen: assume a middling friction."""
        return sight.with_numbers(np.array([MEAN_BRAKING, *sight.numbers[1:]]))


def _along(pad: int) -> float:
    """Return where a pad lies along y, metres."""
    return APART * (pad - (len(BLOWS) - 1) / 2)


def _feel(numbers: np.ndarray, pinch: np.ndarray) -> None:
    """Count for how long a pad has been touched without a break. pinch: (3,) metres."""
    pad = round(float(pinch[1]) / APART + (len(BLOWS) - 1) / 2)
    is_touched = pinch[2] < PRESSED and abs(pinch[0] - PAD_X) < ASIDE and 0 <= pad < len(BLOWS)
    numbers[TOUCHES] = (numbers[TOUCHES] if pad == numbers[PAD] else 0) + 1 if is_touched else 0
    numbers[PAD] = pad


def _let_go(world: World, speed: float, braking: float) -> None:
    """Put the cart at START, moving towards -y, with friction that slows it down so much."""
    joint = world.model.joint("cart")
    world.model.dof_frictionloss[joint.dofadr[0]] = braking * MASS
    world.data.joint("cart").qpos[0], world.data.joint("cart").qvel[0] = START, -speed
    world.refresh()
