"""Things on a table: named bodies of a few shapes and colours, movable or fixed, cheap to simulate and draw.

A movable thing has a free joint, or one that slides along a rail. A fixed one is a mocap body: a task can
put it elsewhere at any time, nothing else moves it. Metres and kilograms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mujoco

Color = tuple[float, float, float]

COLORS: dict[str, Color] = {
    "red": (0.85, 0.12, 0.1),
    "green": (0.1, 0.6, 0.2),
    "blue": (0.1, 0.25, 0.85),
    "yellow": (0.95, 0.8, 0.1),
    "purple": (0.5, 0.15, 0.65),
    "orange": (0.95, 0.45, 0.05),
    "white": (0.95, 0.95, 0.95),
    "black": (0.08, 0.08, 0.08),
}
"""What instructions call colours."""

BOX, CYLINDER, SPHERE = (
    mujoco.mjtGeom.mjGEOM_BOX,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_SPHERE,
)
Part = tuple[mujoco.mjtGeom, tuple[float, ...], tuple[float, float, float]]
"""A primitive shape: MuJoCo's type and half sizes, and where its middle is in the thing's frame."""


def _cube(size: float) -> list[Part]:
    return [(BOX, (size, size, size), (0, 0, 0))]


def _cylinder(size: float) -> list[Part]:
    return [(CYLINDER, (size, size), (0, 0, 0))]


def _ball(size: float) -> list[Part]:
    return [(SPHERE, (size,), (0, 0, 0))]


def _cross(size: float) -> list[Part]:
    return [(BOX, (size, size / 2.5, size), (0, 0, 0)), (BOX, (size / 2.5, size, size), (0, 0, 0))]


def _plate(size: float) -> list[Part]:
    return [(CYLINDER, (size, 0.001), (0, 0, 0))]


def _pad(size: float) -> list[Part]:
    return [(BOX, (size, size, 0.001), (0, 0, 0))]


SHAPES: dict[str, Callable[[float], list[Part]]] = {
    "cube": _cube,
    "cylinder": _cylinder,
    "ball": _ball,
    "cross": _cross,
    "plate": _plate,
    "pad": _pad,
}
"""Parts by half size, in the words of instructions. The middle of what stands on the table is `size` above
it, of a plate (round) or a pad (square) FLAT."""

FLAT = 0.001
"""Half the thickness of plates and pads."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing.

    name: of its body; shape: of SHAPES; size: half its height or width; alpha: 1 for what hides all behind
    it, less for glass; is_fixed: nothing moves it; is_solid: whether it touches others; mass, sliding
    friction: before a task changes them; rail: the middle of the rail it slides along, in the direction of y,
    and how far to both sides, None if it is free.
    """

    name: str
    shape: str
    size: float
    color: Color = (0.5, 0.5, 0.5)
    alpha: float = 1.0
    is_fixed: bool = False
    is_solid: bool = True
    mass: float = 0.015
    friction: float = 1.0
    rail: tuple[tuple[float, float, float], float] | None = None

    def add_to(self, scene: mujoco.MjSpec) -> None:
        """Put it into a scene that is not compiled yet."""
        body = scene.worldbody.add_body(name=self.name, mocap=self.is_fixed)
        if self.rail:
            middle, reach = self.rail
            slide = mujoco.mjtJoint.mjJNT_SLIDE
            body.pos = middle
            body.add_joint(name=self.name, type=slide, axis=(0, 1, 0), limited=True, range=(-reach, reach))
        elif not self.is_fixed:
            body.add_freejoint(name=self.name)
        parts = SHAPES[self.shape](self.size)
        for index, (kind, sizes, place) in enumerate(parts):
            body.add_geom(
                name=self.name if index == 0 else f"{self.name}_{index}",
                type=kind,
                size=[*sizes, 0.0, 0.0][:3],
                pos=place,
                mass=self.mass / len(parts),
                rgba=(*self.color, self.alpha),
                friction=(self.friction, 0.01, 0.001),
                condim=4,
                contype=int(self.is_solid),
                conaffinity=int(self.is_solid),
            )
