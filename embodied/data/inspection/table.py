"""The table of checks, and running them all."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from embodied.data.inspection import number_checks, picture_checks, structure_checks
from embodied.data.inspection.recording import Finding, Recording

CHECKS: dict[str, Callable[[Recording], Iterable[Finding]]] = {
    "episode_index": structure_checks.episode_index,
    "episode_table": structure_checks.episode_table,
    "episode_length": structure_checks.episode_length,
    "duplicate_episode": structure_checks.duplicate_episode,
    "frame_index": structure_checks.frame_index,
    "timestamp_order": structure_checks.timestamp_order,
    "dropped_frames": structure_checks.dropped_frames,
    "timestamp_off_grid": structure_checks.timestamp_off_grid,
    "instruction": structure_checks.instruction,
    "instruction_variants": structure_checks.instruction_variants,
    "success_mark": structure_checks.success_mark,
    "statistics": structure_checks.statistics,
    "not_finite": number_checks.not_finite,
    "outlier": number_checks.outlier,
    "state_jump": number_checks.state_jump,
    "constant": number_checks.constant,
    "state_frozen": number_checks.state_frozen,
    "action_saturated": number_checks.action_saturated,
    "action_equals_state": number_checks.action_equals_state,
    "action_misaligned": number_checks.action_misaligned,
    "picture_size": picture_checks.picture_size,
    "unreadable_picture": picture_checks.unreadable_picture,
    "short_film": picture_checks.short_film,
    "film_rate": picture_checks.film_rate,
    "blank_picture": picture_checks.blank_picture,
    "frozen_camera": picture_checks.frozen_camera,
    "slow_camera": picture_checks.slow_camera,
}
"""What each looks for is its docstring."""


def find(recording: Recording) -> list[Finding]:
    """Findings of every check, problems first."""
    with np.errstate(invalid="ignore"):  # what NaN and infinity do to the other checks
        found = [replace(item, kind=kind) for kind, check in CHECKS.items() for item in check(recording)]
    return sorted(found, key=lambda item: item.severity != "problem")
