"""Perception: small things that look alike; held out, another light, another table and another camera place.

The shifted camera is `front`; the one at the wrist moves with the arm and stays as it is.
"""

from dataclasses import replace

import numpy as np

from envs import skills
from envs.rendering import FreeView
from envs.tabletop import FREE_VIEWS, World, camera_pose, scatter
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import Color, Thing

SHADES: dict[str, Color] = {
    "red": (0.85, 0.12, 0.1),
    "pink": (0.9, 0.45, 0.5),
    "green": (0.1, 0.6, 0.2),
    "teal": (0.05, 0.5, 0.5),
    "blue": (0.1, 0.25, 0.85),
    "purple": (0.45, 0.2, 0.75),
}
"""In pairs that are alike."""
CLEAR = ("red", "green", "blue")
SHAPES = ("cube", "cylinder", "cross")
SIZES = {1: 0.011, 2: 0.01, 3: 0.01}
COUNTS = {1: 3, 2: 5, 3: 3}
"""Half the height of the things in metres, and how many there are, per level."""
APART = 0.055
TOUCHED = 0.029
"""So near the middle of a thing, in metres, the point between closed jaws touches it."""

LIGHT, LIGHT_SHIFT = (0.2, 0.4), (0.1, 0.25, 0.45)
"""Brightness of the lamp to learn from, and by how much it changes at most, held out, per strength."""
TABLE = (0.72, 0.74, 0.76)
TABLE_SHIFT = (0.08, 0.18, 0.3)
TURN, SIDEWAYS = (6.0, 12.0, 18.0), (0.045, 0.055, 0.065)
"""By how many degrees and metres the front camera is turned about what it looks at, and moved with it."""

FORMS = ("touch the {}", "find the {} and touch it", "bring the gripper to the {}")

ANSWER, NAMED, BELIEVED = range(3)
"""Of a goal's numbers: which thing is meant; what it is called; from BELIEVED on, where each thing would be,
x and y, if the picture were one of the camera at its usual place."""


class Perception(Task):
    """Touch the thing of a color, or of a shape, among others.

    Level 1: three small cubes of clear colors. Level 2: five smaller ones whose colors are alike in pairs.
    Level 3: a cube, a cylinder and a cross of one color. The thing that is touched first counts. Held out:
    light, table and front camera are shifted, with strength 1 to 3 as the level.
    """

    def __init__(self, level: int, held_out: bool) -> None:
        """level: 1 to 3."""
        self._level, self._held_out = level, held_out
        kinds = SHAPES if level == 3 else ("cube",) * COUNTS[level]
        self.things = tuple(
            Thing(name=f"thing {index}", shape=kind, size=SIZES[level], is_fixed=True)
            for index, kind in enumerate(kinds)
        )
        self.goal_size = BELIEVED + 2 * len(kinds)
        self.steps = 150

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Arrange the things, shift what is seen and ask for one of them."""
        count, size = COUNTS[self._level], SIZES[self._level]
        places = scatter(generator, count, APART)
        names = list(CLEAR if self._level == 1 else SHADES)
        shades = [names[index] for index in generator.permutation(len(names))[:count]]
        if self._level == 3:
            shades = [shades[0]] * count
        for thing, place, shade in zip(self.names, places, shades, strict=True):
            world.paint(thing, SHADES[shade])
            world.place(thing, (*place, size), generator.uniform(-np.pi / 4, np.pi / 4))
        world.model.light_diffuse[0] = generator.uniform(*LIGHT)
        view = self._shift(world, generator) if self._held_out else FREE_VIEWS["front"]
        answer = int(generator.integers(count))
        named = answer if self._level == 3 else list(SHADES).index(shades[answer])
        believed = [_seen_from_usual(np.array((*place, size)), view)[:2] for place in places]
        form = FORMS[int(generator.integers(len(FORMS)))]
        return Goal(
            instruction=form.format(self._called(named)),
            numbers=np.array([answer, named, *np.concatenate(believed)]),
        )

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """What is touched first counts."""
        distances = [float(np.linalg.norm(world.pinch() - world.position(name))) for name in self.names]
        if min(distances) > TOUCHED:
            return Verdict.RUNNING
        return Verdict.SUCCESS if int(np.argmin(distances)) == goal.numbers[ANSWER] else Verdict.FAILURE

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is to the thing that is meant."""
        way = world.pinch() - world.position(self.names[int(goal.numbers[ANSWER])])
        return {"closeness": float(1.0 - np.tanh(np.linalg.norm(way) / 0.1))}

    def next_move(self, sight: Sight) -> Move:
        """Down on the thing that is meant."""
        what = f"touch the {self._called(int(sight.numbers[NAMED]))}"
        return skills.touch(sight, self.names[int(sight.numbers[ANSWER])], what, height=0.016)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """Not to see which thing is meant; held out, to read the picture as one of the usual camera."""
        if not self._held_out:
            guess = generator.integers(len(self.names))
            return sight.with_numbers(np.array([guess, *sight.numbers[1:]], np.float64))
        believed = sight.numbers[BELIEVED:].reshape(-1, 2)
        return sight.with_poses(
            {
                name: np.array([*place, *sight.poses[name][2:]])
                for name, place in zip(self.names, believed, strict=True)
            }
        )

    def _called(self, named: int) -> str:
        return SHAPES[named] if self._level == 3 else f"{list(SHADES)[named]} cube"

    def _shift(self, world: World, generator: np.random.Generator) -> FreeView:
        """Change light, table and camera; returns from where the camera looks now."""
        strength = self._level - 1
        tint = generator.uniform(-1.0, 1.0, 3) * LIGHT_SHIFT[strength]
        world.model.light_diffuse[0] = np.clip(0.3 + tint, 0.0, 1.0)
        world.model.light_dir[0, :2] += generator.uniform(-1.0, 1.0, 2) * LIGHT_SHIFT[strength]
        table = np.array(TABLE) + generator.uniform(-1.0, 1.0, 3) * TABLE_SHIFT[strength]
        world.model.geom("table").rgba[:3] = np.clip(table, 0.0, 1.0)
        front = FREE_VIEWS["front"]
        angle = generator.uniform(-np.pi, np.pi)
        x, y, z = front.lookat
        there = (x + SIDEWAYS[strength] * np.cos(angle), y + SIDEWAYS[strength] * np.sin(angle), z)
        turn = float(generator.choice((-1.0, 1.0))) * TURN[strength]
        view = replace(front, lookat=there, azimuth=front.azimuth + turn)
        world.move_camera("front", view)
        return view


def _seen_from_usual(place: np.ndarray, view: FreeView) -> np.ndarray:
    """Return where a thing of this height would be whose picture the usual camera gives like this one."""
    here, rotation = camera_pose(view)
    usual, usual_rotation = camera_pose(FREE_VIEWS["front"])
    ray = usual_rotation @ rotation.T @ (place - here)
    return usual + ray * (place[2] - usual[2]) / ray[2]
