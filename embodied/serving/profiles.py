"""Robot profiles: what each joint is called and measured in, and how far, fast and hard it may move.

LeRobot's robots state neither units nor limits, so both stand here; a robot without a profile does not move.
NOTICE names the source of every number. A action size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import envs
from embodied.errors import UserError
from embodied.flags import parse_mapping
from embodied.manifest import read_json
from embodied.serving.specification import JOINT_SUFFIX, UNITS, UNKNOWN

LIMITED = tuple(unit for unit in UNITS if unit != UNKNOWN)
"""Units that a limit can be in."""


@dataclass(frozen=True, kw_only=True)
class RobotProfile:
    """The limits of one robot, for each of A joints, in that joint's unit.

    robots: LeRobot's types that it fits; low, high: range of a command, finite; max_velocity: in units a
    second; max_acceleration: in units a second squared; max_tracking_error: how far a command may be from the
    measured position, infinite for a gripper that holds something; fps: control steps a second; rest: the
    command that stands still, for a robot whose commands are motions, None where they are positions;
    self_collision: MJCF of the robot, whose joints have these names.
    """

    name: str
    robots: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    max_velocity: tuple[float, ...]
    max_acceleration: tuple[float, ...]
    max_tracking_error: tuple[float, ...]
    fps: int
    rest: tuple[float, ...] | None = None
    self_collision: Path | None = None

    def __post_init__(self) -> None:
        """Raise UserError naming the first value that cannot be a limit."""
        positive = ("max_velocity", "max_acceleration", "max_tracking_error")
        rest = () if self.rest is None else ("rest",)
        for column in ("units", "low", "high", *positive, *rest):
            if len(getattr(self, column)) != len(self.names):
                found = f"{len(getattr(self, column))} values in {column}"
                raise UserError(f"profile {self.name}: {found}: expected {len(self.names)}")
        for place, joint in enumerate(self.names):
            low, high, unit = self.low[place], self.high[place], self.units[place]
            if unit not in LIMITED:
                expected = f"one of {', '.join(LIMITED)}"
                raise UserError(f"profile {self.name}: {joint} in {unit!r}: expected {expected}")
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UserError(f"profile {self.name}: {joint} from {low} to {high}: expected a finite range")
            for column in positive:
                value = getattr(self, column)[place]
                if not value > 0:
                    raise UserError(f"profile {self.name}: {column} of {joint} is {value}: expected above 0")
        if self.fps < 1:
            raise UserError(f"profile {self.name}: {self.fps} fps: expected at least 1")

    def check_names(self, names: Sequence[str], whose: str) -> None:
        """Raise UserError naming the first joint of `whose` that is another one, or in another place."""
        ours = [name.removesuffix(JOINT_SUFFIX) for name in self.names]
        theirs = [name.removesuffix(JOINT_SUFFIX) for name in names]
        for place, (our, their) in enumerate(zip(ours, theirs, strict=False)):
            if our != their:
                raise UserError(f"{whose}: action {place} is {their}: expected {our}, of profile {self.name}")
        if len(ours) != len(theirs):
            raise UserError(
                f"{whose}: {len(theirs)} actions: expected the {len(ours)} of profile {self.name}"
            )


def _so101() -> RobotProfile:
    arm = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
    return RobotProfile(
        name="so101",
        robots=("so101_follower", "so100_follower", "sim_so101"),
        names=tuple(f"{joint}{JOINT_SUFFIX}" for joint in (*arm, "gripper")),
        units=("deg",) * 5 + ("percent",),
        low=(-110.0, -100.0, -96.8, -95.0, -157.2, 0.0),
        high=(110.0, 100.0, 96.8, 95.0, 162.8, 100.0),
        # Two thirds of what the motor reaches without a load; the gripper's 110 degrees are 100 percent.
        max_velocity=(180.0,) * 5 + (164.0,),
        # Two thirds of the acceleration that LeRobot sets in the motors.
        max_acceleration=(1488.0,) * 5 + (1353.0,),
        max_tracking_error=(30.0,) * 5 + (math.inf,),
        fps=30,
        self_collision=Path(envs.__file__).parent / "assets" / "so101.xml",
    )


def _aloha() -> RobotProfile:
    arm = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
    return RobotProfile(
        name="aloha",
        robots=("sim_aloha", "aloha"),
        names=tuple(f"{side}_{joint}{JOINT_SUFFIX}" for side in ("left", "right") for joint in arm),
        units=(("rad",) * 6 + ("share",)) * 2,
        low=(-3.14158, -1.85005, -1.76278, -3.14158, -1.8675, -3.14158, 0.0) * 2,
        high=(3.14158, 1.25664, 1.6057, 3.14158, 2.23402, 3.14158, 1.0) * 2,
        max_velocity=((3.14159,) * 6 + (5.0,)) * 2,
        max_acceleration=((30.0,) * 6 + (100.0,)) * 2,
        max_tracking_error=((0.5,) * 6 + (math.inf,)) * 2,
        fps=50,
    )


def _metaworld() -> RobotProfile:
    """Commands are motions of the hand, and the simulator takes any within the range at every step."""
    return RobotProfile(
        name="metaworld",
        robots=("metaworld_sawyer",),
        names=("hand_dx", "hand_dy", "hand_dz", "gripper_force"),
        units=("cm/step",) * 3 + ("share",),
        low=(-1.0,) * 4,
        high=(1.0,) * 4,
        max_velocity=(math.inf,) * 4,
        max_acceleration=(math.inf,) * 4,
        max_tracking_error=(math.inf,) * 4,
        fps=80,
        rest=(0.0,) * 4,
    )


PROFILES = {profile.name: profile for profile in (_so101(), _aloha(), _metaworld())}


def find_profile(robot_type: str, given: str | None = None) -> RobotProfile:
    """The profile `given`, a name or a JSON file with the fields of `RobotProfile`, or that of the robot.

    Raises:
        UserError: an unknown name, a file that is no profile, or a robot that has none.
    """
    if given is None:
        for profile in PROFILES.values():
            if robot_type in profile.robots:
                return profile
        raise UserError(
            f"--robot.type={robot_type}: its units and limits are unknown, so it does not move: "
            f"expected --safety.profile, one of {', '.join(PROFILES)} or a JSON file"
        )
    if given in PROFILES:
        return PROFILES[given]
    if not given.endswith(".json"):
        expected = f"one of {', '.join(PROFILES)} or a JSON file"
        raise UserError(f"--safety.profile={given}: expected {expected}")
    return parse_mapping(RobotProfile, read_json(Path(given)), source=f"--safety.profile={given}")
