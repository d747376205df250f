"""The tasks of the SO-101-sized arm, by name.

An ability is a family of tasks in which that ability is necessary: three levels of difficulty, each in a
split to learn from and one held out.
"""

from collections.abc import Callable
from functools import partial

from envs.tasks.memory import Memory
from envs.tasks.modeling import Modeling
from envs.tasks.perception import Perception
from envs.tasks.planning import Planning
from envs.tasks.reach_cube import ReachCube
from envs.tasks.reasoning import reasoning
from envs.tasks.task import Task

ABILITIES: dict[str, Callable[[int, bool], Task]] = {
    "reasoning": reasoning,
    "planning": Planning,
    "modeling": Modeling,
    "perception": Perception,
    "memory": Memory,
}
"""What makes each ability's task of a level (1 to 3), held out or not."""
VARIANTS = {"planning-picture": partial(Planning, is_pictured=True)}
"""The same for families that need a camera of their own: `goal` shows what is asked for."""
FAMILIES = {**ABILITIES, **VARIANTS}
LEVELS = (1, 2, 3)
HELD_OUT = "-held-out"

TASKS: dict[str, Callable[[], Task]] = {
    "reach-cube": ReachCube,
    **{
        f"{ability}-{level}{split}": partial(make, level, split == HELD_OUT)
        for ability, make in FAMILIES.items()
        for split in ("", HELD_OUT)
        for level in LEVELS
    },
}
"""What makes each task."""


def _of(abilities: tuple[str, ...], split: str) -> tuple[str, ...]:
    return tuple(f"{ability}-{level}{split}" for ability in abilities for level in LEVELS)


TASK_SETS: dict[str, tuple[str, ...]] = {
    name + split: _of(abilities, split)
    for split in ("", HELD_OUT)
    for name, abilities in [
        ("abilities", tuple(ABILITIES)),
        *((ability, (ability,)) for ability in FAMILIES),
    ]
}
"""What several tasks can be called at once: `memory` to learn from, `memory-held-out`; `abilities`: all."""


def make_task(name: str) -> Task:
    """Return a task of TASKS. ValueError, naming them, for another name."""
    if name not in TASKS:
        raise ValueError(f"task {name!r}: expected one of {', '.join(TASKS)}")
    return TASKS[name]()
