"""What a policy asks of a robot and what it gives: names, order, units, ranges, pictures, rate.

Read from a checkpoint, told in the handshake, and compared before a motor is enabled: a policy of other
joints, another order, unit, camera or rate moves nothing.

Imports neither torch nor lerobot, so that an exported policy is served without them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from embodied.errors import UserError

PROTOCOL = 1
"""Version of `vla.v1` that this code speaks."""

UNKNOWN = "unknown"
"""Robot type or unit that nobody has declared. No motion is allowed in an unknown unit."""

UNITS = ("rad", "deg", "m", "percent", "share", "cm/step", "pixel", UNKNOWN)
"""percent: 0 to 100 and share: 0 to 1 of a gripper's way; cm/step: motion of a hand in a control step."""

FAMILIES = {
    "aloha": "aloha",
    "aloha_sim": "aloha",
    "sim_aloha": "aloha",
    "metaworld_sawyer": "metaworld",
    "pusht": "pusht",
    "sim_so101": "so101",
    "so100_follower": "so101",
    "so101_follower": "so101",
    "so_follower": "so101",
}
"""Robot types that are one robot to a policy: the real arm and its simulations. LeRobot's SO-100 and SO-101,
chosen as `so100_follower` and `so101_follower`, call themselves `so_follower`, also in what they record."""

FAMILY_UNITS: dict[str, dict[str, str]] = {
    "aloha": {"*gripper*": "share", "*": "rad"},
    "metaworld": {"hand_d*": "cm/step", "hand_*": "m", "gripper_*": "share"},
    "pusht": {"*": "pixel"},
    "so101": {"gripper*": "percent", "*": "deg"},
}
"""Units by family, as data sets record none: the first pattern that a signal's name matches counts."""

PLAN = "plan"
"""The mode whose effort a session can choose: the others do what they do."""

JOINT_SUFFIX = ".pos"
"""LeRobot's robots call a joint `elbow_flex.pos`, simulators and older data sets `elbow_flex`."""

MAX_SIGNALS = 64
MAX_CAMERAS = 16
MAX_SIDE = 4096
MAX_CHUNK = 1000
MAX_FPS = 1000.0
MAX_CANDIDATES = 4096
SPAN_RATIO = 6.0
"""How many times a robot's whole range a policy may command: the leader arm of a demonstration goes somewhat
beyond its follower, but degrees are 57 times radians."""

IMAGE_PREFIX = "observation.images."
STATE = "observation.state"
ACTION = "action"


@dataclass(frozen=True, kw_only=True)
class Signals:
    """Numbers in a fixed order: per signal its name, unit and range; infinite where nothing is known."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= MAX_SIGNALS or len(set(self.names)) != count:
            raise UserError(f"names {self.names}: expected 1 to {MAX_SIGNALS} different ones")
        for name in ("units", "low", "high"):
            if len(getattr(self, name)) != count:
                raise UserError(f"{name} of {len(getattr(self, name))} signals: expected {count}")
        for unit in self.units:
            if unit not in UNITS:
                raise UserError(f"unit {unit}: expected one of {', '.join(UNITS)}")
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low <= high:
                raise UserError(f"range of {name}, {low} to {high}: expected low up to high")


@dataclass(frozen=True, kw_only=True)
class Specification:
    """What a policy asks for and gives, or what a robot offers.

    checkpoint: SHA-256 of the checkpoint's manifest; cameras: (H, W, 3) of uint8 pictures by camera name, no
    prefix; fps: steps per second; chunk_size: actions of a decision, n_action_steps of which are meant to be
    executed; modes: ways to decide; candidates: chunks that `plan` chooses among, the policy's own number or
    the most that a server allows, 0 without that mode; rtc: whether it continues a committed prefix. What
    only a policy has is empty (text "", numbers 0, no modes) in a robot's specification, or names what that
    robot insists on.
    """

    protocol: int = PROTOCOL
    checkpoint: str = ""
    robot_type: str
    cameras: dict[str, tuple[int, int, int]]
    state: Signals
    action: Signals
    fps: float
    chunk_size: int = 0
    n_action_steps: int = 0
    modes: tuple[str, ...] = ()
    candidates: int = 0
    rtc: bool = False

    def __post_init__(self) -> None:
        if len(self.cameras) > MAX_CAMERAS:
            raise UserError(f"{len(self.cameras)} cameras: expected at most {MAX_CAMERAS}")
        for name, size in self.cameras.items():
            if len(size) != 3 or size[2] != 3 or not all(1 <= side <= MAX_SIDE for side in size):
                raise UserError(f"camera {name} of {size}: expected (height, width, 3), at most {MAX_SIDE}")
        if not 0 < self.fps <= MAX_FPS:
            raise UserError(f"fps {self.fps}: expected more than 0, at most {MAX_FPS:g}")
        if not 0 <= self.n_action_steps <= self.chunk_size <= MAX_CHUNK:
            steps = f"n_action_steps {self.n_action_steps} of chunk_size {self.chunk_size}"
            raise UserError(f"{steps}: expected 0 <= n_action_steps <= chunk_size <= {MAX_CHUNK}")
        if not 0 <= self.candidates <= MAX_CANDIDATES:
            raise UserError(f"candidates {self.candidates}: expected 0 to {MAX_CANDIDATES}")


# --- comparison -----------------------------------------------------------------------------------


def mismatch(theirs: Specification, ours: Specification) -> str | None:
    """One line on the first thing in which a policy does not fit a robot; None if it fits.

    theirs: the policy's; ours: the robot's, which may have cameras that the policy does not look at, and may
    leave empty what it does not insist on.
    """
    checks = (_identity, _pictures, _signals, _timing)
    return next((line for check in checks if (line := check(theirs, ours)) is not None), None)


def _identity(theirs: Specification, ours: Specification) -> str | None:
    if theirs.protocol != ours.protocol:
        return f"protocol: the policy's is {theirs.protocol}, expected {ours.protocol}"
    types = theirs.robot_type, ours.robot_type
    if UNKNOWN in types or len({FAMILIES.get(kind, kind) for kind in types}) > 1:
        return f"robot_type: the policy's is {types[0]}, expected {types[1]}"
    if ours.checkpoint and theirs.checkpoint != ours.checkpoint:
        return f"checkpoint: the policy's is {theirs.checkpoint}, expected {ours.checkpoint}"
    return None


def _pictures(theirs: Specification, ours: Specification) -> str | None:
    for name, size in theirs.cameras.items():
        if name not in ours.cameras:
            return f"camera {name}: the policy needs it, the robot has {', '.join(ours.cameras) or 'none'}"
        own = ours.cameras[name]
        if size != own:
            return f"camera {name}: the policy needs {_size(size)} pixels, the robot has {_size(own)}"
    return None


def _size(size: tuple[int, int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _signals(theirs: Specification, ours: Specification) -> str | None:
    for what in ("state", "action"):
        there: Signals = getattr(theirs, what)
        here: Signals = getattr(ours, what)
        if _bare(there.names) != _bare(here.names):
            names = f"{', '.join(there.names)}, the robot's {', '.join(here.names)}"
            return f"{what}: the policy's names are {names}"
        for name, unit, own in zip(there.names, there.units, here.units, strict=True):
            if unit != own or unit == UNKNOWN:
                return f"unit of {what} {name}: the policy's is {unit}, the robot's {own}"
        line = _ranges(what, there, here)
        if line is not None:
            return line
    return None


def _bare(names: tuple[str, ...]) -> list[str]:
    return [name.removesuffix(JOINT_SUFFIX) for name in names]


def _ranges(what: str, there: Signals, here: Signals) -> str | None:
    """A unit that was declared wrongly shows in the ranges: one that exceeds the robot's many times."""
    for i, name in enumerate(there.names):
        span, own = there.high[i] - there.low[i], here.high[i] - here.low[i]
        if math.isfinite(span) and math.isfinite(own) and span > SPAN_RATIO * own:
            ranges = f"{there.low[i]:g} to {there.high[i]:g}, the robot's {here.low[i]:g} to {here.high[i]:g}"
            return f"range of {what} {name}: the policy's is {ranges}: expected the same unit"
    return None


def _timing(theirs: Specification, ours: Specification) -> str | None:
    for name in ("fps", "chunk_size", "n_action_steps"):
        there, here = getattr(theirs, name), getattr(ours, name)
        if there != here and (name == "fps" or here):
            return f"{name}: the policy's is {there:g}, the robot's {here:g}"
    for mode in ours.modes:
        if mode not in theirs.modes:
            return f"mode {mode}: the policy has {', '.join(theirs.modes)}"
    if ours.rtc and not theirs.rtc:
        return "rtc: the policy cannot continue a chunk, as the robot asks"
    return None


# --- plain maps -----------------------------------------------------------------------------------


def to_plain(specification: Specification) -> dict[str, Any]:
    """The specification as maps, lists, text and numbers, for the wire and for JSON.

    Infinite bounds are None, since JSON has no infinity.
    """
    plain = {field.name: getattr(specification, field.name) for field in fields(Specification)}
    plain["cameras"] = {name: list(size) for name, size in specification.cameras.items()}
    plain["modes"] = list(specification.modes)
    for what in ("state", "action"):
        signals: Signals = plain[what]
        bounds = {name: [_bound(value) for value in getattr(signals, name)] for name in ("low", "high")}
        plain[what] = {"names": list(signals.names), "units": list(signals.units), **bounds}
    return plain


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def from_plain(plain: Any) -> Specification:
    """The opposite of `to_plain`; UserError naming the first value that is missing or of a wrong type."""
    values = _exactly("specification", plain, tuple(field.name for field in fields(Specification)))
    cameras = _map("cameras", values["cameras"])
    sizes = {name: _sequence(f"camera {name}", size, int) for name, size in cameras.items()}
    return Specification(
        protocol=_typed("protocol", values["protocol"], int),
        checkpoint=_typed("checkpoint", values["checkpoint"], str),
        robot_type=_typed("robot_type", values["robot_type"], str),
        cameras={name: _three(name, size) for name, size in sizes.items()},
        state=_signals_from("state", values["state"]),
        action=_signals_from("action", values["action"]),
        fps=float(_typed("fps", values["fps"], (int, float))),
        chunk_size=_typed("chunk_size", values["chunk_size"], int),
        n_action_steps=_typed("n_action_steps", values["n_action_steps"], int),
        modes=_sequence("modes", values["modes"], str),
        candidates=_typed("candidates", values["candidates"], int),
        rtc=_typed("rtc", values["rtc"], bool),
    )


def _signals_from(what: str, plain: Any) -> Signals:
    values = _exactly(what, plain, ("names", "units", "low", "high"))
    bounds = {}
    for name, missing in (("low", -math.inf), ("high", math.inf)):
        found = _sequence(f"{what}.{name}", values[name], (int, float, type(None)))
        bounds[name] = tuple(missing if value is None else float(value) for value in found)
    names = _sequence(f"{what}.names", values["names"], str)
    return Signals(names=names, units=_sequence(f"{what}.units", values["units"], str), **bounds)


def _three(name: str, size: tuple[int, ...]) -> tuple[int, int, int]:
    if len(size) != 3:
        raise UserError(f"camera {name} of {size}: expected (height, width, 3)")
    return size[0], size[1], size[2]


def _typed(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{name} is a {type(value).__name__}: expected another type")
    return value


def _sequence(name: str, value: Any, kind: Any) -> tuple[Any, ...]:
    return tuple(_typed(name, item, kind) for item in _typed(name, value, (list, tuple)))


def _map(name: str, value: Any) -> dict[str, Any]:
    found = _typed(name, value, dict)
    for key in found:
        _typed(f"key of {name}", key, str)
    return found


def _exactly(name: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    found = _map(name, value)
    if set(found) != set(keys):
        raise UserError(f"{name} has {', '.join(sorted(found))}: expected {', '.join(sorted(keys))}")
    return found


# --- checkpoints ----------------------------------------------------------------------------------


def from_checkpoint(path: Path) -> Specification:
    """Read what a checkpoint's policy asks for and gives, after checking every file of it.

    path: a checkpoint folder or a run's output folder. Ranges are those of the data that it was trained on.
    Raises UserError if it was not written by `embodied train`, which is the only one to note them.
    """
    # Here, as safetensors is not needed where an exported policy is served.
    from embodied.manifest import MANIFEST, file_sha256, read_json
    from embodied.training.checkpoint import SPECIFICATION, load_checkpoint_folder

    folder = load_checkpoint_folder(path)
    if not (folder / SPECIFICATION).is_file():
        raise UserError(f"{folder}: has no {SPECIFICATION}: expected a checkpoint of `embodied train`")
    noted, config = read_json(folder / SPECIFICATION), read_json(folder / "config.json")
    for key in (STATE, ACTION):
        if key not in noted["observation"] | noted["action"]:
            raise UserError(f"{folder}: its policy has no {key}: expected one that can drive a robot")
    robot_type = noted.get("robot_type") or UNKNOWN
    modes = _modes(config)
    return Specification(
        checkpoint=file_sha256(folder / MANIFEST),
        robot_type=robot_type,
        cameras={
            key.removeprefix(IMAGE_PREFIX): _three(key, _height_first(described["shape"]))
            for key, described in noted["observation"].items()
            if described["kind"] == "VISUAL"
        },
        state=_noted_signals(noted["observation"][STATE], robot_type),
        action=_noted_signals(noted["action"][ACTION], robot_type),
        fps=float(noted["rate_hz"]),
        chunk_size=config.get("chunk_size", 1),
        n_action_steps=config.get("n_action_steps", 1),
        modes=modes,
        candidates=config.get("candidates", 0) if PLAN in modes else 0,
        rtc=config.get("action_head") == "flow",
    )


def _height_first(shape: list[int]) -> tuple[int, ...]:
    """(H, W, C) of a noted (C, H, W)."""
    return (*shape[1:], shape[0])


def _noted_signals(noted: Mapping[str, Any], robot_type: str) -> Signals:
    size = noted["shape"][0]
    names = noted.get("names") or [f"{i}" for i in range(size)]
    if isinstance(names, dict):  # LeRobot also groups them: {"motors": [...]}
        names = [name for group in names.values() for name in group]
    return Signals(
        names=tuple(names),
        units=tuple(robot_unit(robot_type, name) for name in names),
        low=tuple(noted.get("min", [-math.inf] * size)),
        high=tuple(noted.get("max", [math.inf] * size)),
    )


def robot_unit(robot_type: str, name: str) -> str:
    """Unit of one signal of a robot, by `FAMILY_UNITS`."""
    patterns = FAMILY_UNITS.get(FAMILIES.get(robot_type, UNKNOWN), {})
    return next((unit for pattern, unit in patterns.items() if fnmatchcase(name, pattern)), UNKNOWN)


def _modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The ways to decide that a policy was trained for."""
    able = {"reactive": True, "imagine": config.get("imagination", "none") != "none"}
    able[PLAN] = bool(config.get("world_model", False))
    return tuple(mode for mode, is_able in able.items() if is_able)
