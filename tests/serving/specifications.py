"""Specifications that the tests of serving share: a small SO-101 with two cameras, as policy and as robot."""

from dataclasses import replace
from typing import Any

from embodied.serving.specification import Signals, Specification

JOINTS = ("shoulder_pan.pos", "elbow_flex.pos", "gripper.pos")
SIGNALS = Signals(
    names=JOINTS, units=("deg", "deg", "percent"), low=(-110.0, -100.0, 0.0), high=(110.0, 100.0, 100.0)
)
ROBOT = Specification(
    robot_type="sim_so101",
    cameras={"front": (4, 6, 3), "wrist": (2, 2, 3), "spare": (8, 8, 3)},
    state=SIGNALS,
    action=SIGNALS,
    fps=30.0,
)
POLICY = replace(
    ROBOT,
    checkpoint="ab" * 32,
    cameras={"front": (4, 6, 3), "wrist": (2, 2, 3)},
    chunk_size=5,
    n_action_steps=3,
    modes=("reactive", "imagine"),
    rtc=True,
)


def with_signals(what: str, **changes: Any) -> Specification:
    """The policy's specification with other names, units or ranges of `state` or `action`."""
    return replace(POLICY, **{what: replace(SIGNALS, **changes)})
