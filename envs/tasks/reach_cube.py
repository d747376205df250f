"""Bring the gripper around a cube: the first task, which needs no ability but to see and to move."""

import numpy as np

from envs import skills
from envs.tabletop import HIGH, LOW, World
from envs.tasks.task import Goal, Move, Sight, Task, Verdict
from envs.things import COLORS, Thing

CUBE_SIZE = 0.0125
OPENING = 55.0
"""Of the gripper, per cent: the cube fits between the jaws with room on both sides."""
INSIDE = 0.006
"""How far above its middle the jaws stop, metres."""
REACHED = 0.015
"""How near its middle the point between the jaws has to come, in metres: the cube is then between them."""


def closeness(distance: float) -> float:
    """Reward for a distance in metres: 1 at the place, about a quarter at 10 cm."""
    return float(1.0 - np.tanh(distance / 0.1))


class ReachCube(Task):
    """The cube starts anywhere within reach, turned anyhow."""

    things = (Thing(name="cube", shape="cube", size=CUBE_SIZE, color=COLORS["red"]),)
    goal_size = 0
    steps = 150

    def begin(self, world: World, generator: np.random.Generator) -> Goal:
        """Place the cube."""
        place, yaw = generator.uniform(LOW, HIGH), generator.uniform(-np.pi / 4, np.pi / 4)
        world.place("cube", (*place, CUBE_SIZE), yaw)
        return Goal(instruction="bring the gripper around the red cube", numbers=np.empty(0))

    def judge(self, world: World, goal: Goal, step: int) -> Verdict:
        """The point between the jaws is at the cube."""
        return Verdict.SUCCESS if self._distance(world) <= REACHED else Verdict.RUNNING

    def rewards(self, world: World, goal: Goal) -> dict[str, float]:
        """How near the gripper is."""
        return {"closeness": closeness(self._distance(world))}

    def next_move(self, sight: Sight) -> Move:
        """Over the cube, then down around it."""
        cube = sight.place("cube")
        is_over = skills.beside(sight, cube) <= 0.0
        what = "lower the gripper around the cube" if is_over else "move the gripper over the cube"
        place, facing = skills.above(cube, INSIDE), skills.yaw(sight.poses["cube"])
        return skills.go(sight, place, what, opening=OPENING, facing=facing)

    def blind(self, sight: Sight, generator: np.random.Generator) -> Sight:
        """Believe the cube to be anywhere within reach."""
        pose = sight.poses["cube"].copy()
        pose[:2] = generator.uniform(LOW, HIGH)
        return sight.with_poses({"cube": pose})

    def _distance(self, world: World) -> float:
        return float(np.linalg.norm(world.pinch() - world.position("cube")))
