"""Modeling: what a push does depends on what cannot be seen, but has been shown.

A cart on a rail is let go at a known place and speed and glides until friction stops it; a black pad stays
where that was, and the cart comes back. Then the arm has one blow: the cart glides on and has to come to rest
at the red mark. How hard to strike follows from the friction alone, and nothing can be put right afterwards.
"""

import numpy as np

from envs import skills
from envs.tabletop import World
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, Thing

X, Z, REACH = 0.22, 0.03, 0.16
"""The rail's place and height, and how far the cart goes to both sides along y, in metres."""
BESIDE = X - 0.035
"""Where pads lie beside the rail."""
SIZE, MASS = 0.014, 0.1
START, SHOWN_SPEED = 0.08, 0.25
"""Where the cart is let go to show how it glides, and how fast: metres, and metres per second towards -y."""
BRAKING, HELD_OUT = ((0.33, 0.62),), ((0.3, 0.32), (0.63, 0.66))
"""By how much friction slows the cart down, to learn from and held out, in metres per second squared."""
MEAN_BRAKING = 0.475
GLIDE, GLIDES = 0.106, (0.08, 0.15)
"""How far the cart has to glide on level 1, and on the others as far as the arm's blows allow, in metres."""
BLOWS = (0.033, 0.062)
"""The blows that the arm strikes surely, as STROKES has them."""
TOLERANCE = 0.011
LINE = 0.045
"""The gripper may not come farther along the rail: a cart that is carried there is short of every mark."""
STILL, MOVING = 0.004, 0.05
"""Metres per second."""

BEHIND = 0.075
"""How far behind the cart the gripper takes aim."""
READY, UNREADY = 0.012, 0.04
"""Metres from there: so near a gripper that rests is ready, and until so far beside the rail it stays so."""
STROKES = {
    2.5: 0.0267, 2.55: 0.0307, 2.65: 0.0349, 2.7: 0.0397, 2.8: 0.0437, 2.9: 0.0481, 3.05: 0.0526,
    3.175: 0.0554, 3.25: 0.0596, 3.325: 0.0615, 3.4: 0.0634, 3.55: 0.0663, 3.7: 0.0685, 3.85: 0.071,
}  # fmt: skip
"""Degrees per step of the expert's strokes, and what each gives the cart: friction's braking times the way it
glides then, in metres squared per second squared. Measured in this simulation, to 2 %; between them it goes
in jumps, with the control step in which the cart is hit."""

SLOWING, GOAL, SHOWS, PUSHED, IS_READY, LATER = range(6)
"""Of a goal's numbers: friction's braking; where the mark is; how often the glide is still to be shown;
whether the cart has been struck; whether the gripper is ready to; braking from the last show on."""


class Modeling(Task):
    """Strike a cart of unknown friction so that it comes to rest at a mark.

    Level 1: one mark. Level 2: the mark is anywhere. Level 3: in mid-episode the friction changes; the cart
    glides a second time, which is what counts. If the cart comes to rest elsewhere, or the gripper passes the
    line, the episode has failed. Held out: less friction, and more, than any to learn from.
    """

    things = (
        Thing(
            name="cart", shape="cube", size=SIZE, color=COLORS["blue"], mass=MASS, rail=((X, 0.0, Z), REACH)
        ),
        *(
            Thing(name=name, shape="pad", size=size, color=COLORS[color], is_fixed=True, is_solid=False)
            for name, size, color in (
                ("trace", 0.01, "black"),
                ("mark", 0.012, "red"),
                ("line", 0.007, "white"),
            )
        ),
    )
    goal_size = 6
    steps = 260

    def __init__(self, level: int, held_out: bool) -> None:
        """level: 1 to 3."""
        self._level, self._ranges = level, HELD_OUT if held_out else BRAKING

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Let the cart go."""
        now, later = self._draw(generator), self._draw(generator)
        shows = 2 if self._level == 3 else 1
        last = later if shows == 2 else now
        low, high = np.clip(np.array(BLOWS) / last, *GLIDES)
        mark = START - (GLIDE if self._level == 1 else generator.uniform(low, high))
        world.hide("trace")
        world.place("mark", (BESIDE, mark, 0.001))
        world.place("line", (BESIDE, LINE, 0.001))
        _let_go(world, SHOWN_SPEED, now)
        world.make_solid("cart", False)  # whatever the arm does, the glide is shown as it is
        forms = (
            "strike the blue cart so that it stops at the red mark",
            "make the blue cart glide to the red mark",
            "with one blow, send the cart to the red mark",
        )
        return Goal(
            instruction=forms[int(generator.integers(len(forms)))],
            numbers=np.array([now, mark, shows, 0.0, 0.0, last]),
        )

    def _draw(self, generator: np.random.Generator) -> float:
        low, high = self._ranges[int(generator.integers(len(self._ranges)))]
        return float(generator.uniform(low, high))

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """Show how the cart glides, then wait for it to come to rest."""
        numbers = goal.numbers
        place, speed = world.position("cart")[1], float(world.data.joint("cart").qvel[0])
        if numbers[SHOWS]:
            if abs(speed) < STILL:
                world.place("trace", (BESIDE, place, 0.001))
                numbers[SHOWS] -= 1
                numbers[SLOWING] = numbers[LATER]
                _let_go(world, SHOWN_SPEED if numbers[SHOWS] else 0.0, numbers[SLOWING])
                world.make_solid("cart", not numbers[SHOWS])
            return Verdict.RUNNING
        pinch = world.pinch()
        _make_ready(world, numbers, pinch - _behind(world.position("cart")))
        if pinch[1] < LINE and pinch[2] < 2 * Z:
            return Verdict.FAILURE
        if abs(speed) > MOVING:
            numbers[PUSHED] = 1.0
        if not numbers[PUSHED] or abs(speed) > STILL:
            return Verdict.RUNNING
        return Verdict.SUCCESS if abs(place - numbers[GOAL]) < TOLERANCE else Verdict.FAILURE

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the cart is to the mark."""
        way = abs(world.position("cart")[1] - goal.numbers[GOAL])
        return {"closeness": float(1.0 - np.tanh(way / 0.1))}

    def next_move(self, sight: Sight) -> Move:
        """Take aim behind the cart, strike as hard as the friction asks, and get out of the way.

        How hard is said from when the cart has shown how it glides.
        """
        numbers, cart = sight.numbers, sight.place("cart")
        behind = _behind(cart)
        if numbers[SHOWS]:
            return Move(what="watch the cart", place=skills.above(behind, 0.05), opening=skills.CLOSED)
        if numbers[PUSHED]:
            back = np.array((X, sight.pinch[1] + 0.06, 0.12))
            return Move(what="let the cart glide", place=back, opening=skills.CLOSED, fastest=8.0, ramp=8.0)
        blow = numbers[SLOWING] * (cart[1] - numbers[GOAL])
        speed = min(STROKES, key=lambda speed: abs(STROKES[speed] - blow))
        strength = f"strength {1 + list(STROKES).index(speed)} of {len(STROKES)}"
        if not numbers[IS_READY]:
            return skills.go(sight, behind, f"take aim for {strength}", opening=skills.CLOSED)
        return Move(
            what=f"strike the cart with {strength}",
            place=behind - np.array((0.0, 0.265, 0.0)),
            opening=skills.CLOSED,
            fastest=speed,
            lead=20.0,
        )

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """The glide has not been seen: assume a middling friction."""
        return sight.with_numbers(np.array([MEAN_BRAKING, *sight.numbers[1:]]))


def _behind(cart: np.ndarray) -> np.ndarray:
    """Return where the gripper takes aim, (3,) metres."""
    return np.array((X, cart[1] + BEHIND, Z + 0.005))


def _make_ready(world: World, numbers: np.ndarray, off: np.ndarray) -> None:
    """Note whether the gripper has come to rest behind the cart. off: (3,) metres from there."""
    if np.linalg.norm(off) < READY and np.abs(world.rates()[:5]).max() < 0.03:
        numbers[IS_READY] = 1.0
    elif abs(off[0]) > UNREADY or off[2] > UNREADY:
        numbers[IS_READY] = 0.0


def _let_go(world: World, speed: float, braking: float) -> None:
    """Put the cart at START, moving towards -y, with friction that slows it down so much."""
    joint = world.model.joint("cart")
    world.model.dof_frictionloss[joint.dofadr[0]] = braking * MASS
    world.data.joint("cart").qpos[0], world.data.joint("cart").qvel[0] = START, -speed
    world.refresh()
