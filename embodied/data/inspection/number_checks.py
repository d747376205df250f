"""Defects of states and actions. Every check is a pure function of the recording."""

from collections.abc import Iterator

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from embodied.data.inspection.recording import Episode, Finding, Recording, is_gripper, stretches

OUTLIER = 12.0
"""Robust standard deviations; a uniform distribution ends at 2, joints that rest most of the time at 10."""

SPIKE_FRAMES = 2
"""A value that is far away for longer is a movement, though a rare one."""

JUMP_OF_RANGE, JUMP_OF_STEP = 0.3, 10.0
"""Within one frame: of the range of the whole data set, and of the step that 98 % of all steps stay below."""

STANDSTILL_SECONDS, SHORTEST_STANDSTILL = 0.5, 8
MOVES = 0.1
"""Of its range: as much as a joint must be told to move before its standing still means anything."""

OUT_OF_REACH = 0.2
LAG_SECONDS = 0.5
"""A follower arm lags 0.03 to 0.3 s behind its leader."""


def not_finite(recording: Recording) -> Iterator[Finding]:
    """NaN or infinite numbers."""
    for key in recording.vectors:
        for name, values in recording.dimensions(key):
            for episode in recording.episodes:
                bad = ~np.isfinite(values[episode.start : episode.stop])
                for first, last in stretches(bad):
                    yield Finding(
                        feature=key,
                        dimension=name,
                        episode=episode.index,
                        frames=(first, last),
                        message=f"is {values[episode.start + first]}",
                    )


def outlier(recording: Recording) -> Iterator[Finding]:
    """Values far from all others for a frame or two, as of a bus that stumbled."""
    for key in (OBS_STATE, ACTION):
        if key not in recording.vectors:
            continue
        commanded_by_position = key == OBS_STATE or bool(recording.pairs)
        for name, values in recording.dimensions(key):
            for episode, first, last in _spikes(recording, values):
                value = values[episode.start + first]
                yield Finding(
                    severity="problem" if commanded_by_position else "note",
                    feature=key,
                    dimension=name,
                    episode=episode.index,
                    frames=(first, last),
                    message=f"is {value:.4g}, its median {_median(values):.4g}",
                )


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def _spikes(recording: Recording, values: np.ndarray) -> Iterator[tuple[Episode, int, int]]:
    """Episode, first and last frame of each spike of one dimension."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    median = np.median(finite)
    low, high = np.quantile(finite, [0.05, 0.95])
    scale = max(1.4826 * np.median(np.abs(finite - median)), (high - low) / 3.29)
    if scale == 0:
        return
    distance = np.where(np.isfinite(values), np.abs(values - median), 0.0)
    for episode in recording.episodes:
        here = distance[episode.start : episode.stop]
        for first, last in stretches(here > OUTLIER * scale):
            sides = [place for place in (first - 1, last + 1) if 0 <= place < len(here)]
            returns = all(here[place] < here[first] / 2 for place in sides)
            if sides and returns and last - first < SPIKE_FRAMES:
                yield episode, first, last


def state_jump(recording: Recording) -> Iterator[Finding]:
    """A joint that is elsewhere from one frame to the next: a cut, a lost reading, an angle that wrapped."""
    if OBS_STATE not in recording.vectors:
        return
    for name, raw in recording.dimensions(OBS_STATE):
        if is_gripper(name):
            continue
        values = np.where(np.isfinite(raw), raw, np.nan).astype(np.float64)
        for episode, first, last in _spikes(recording, raw):
            values[episode.start + first : episode.start + last + 1] = np.nan
        spread = np.nanmax(values) - np.nanmin(values) if np.isfinite(values).any() else 0.0
        steps = {e.index: np.abs(np.diff(values[e.start : e.stop])) for e in recording.episodes}
        all_steps = np.concatenate(list(steps.values()))
        all_steps = all_steps[np.isfinite(all_steps)]
        if not len(all_steps) or not spread > 0:
            continue
        limit = max(JUMP_OF_RANGE * spread, JUMP_OF_STEP * np.quantile(all_steps, 0.98))
        for index, sizes in steps.items():
            for frame in np.flatnonzero(sizes > limit):
                yield Finding(
                    feature=OBS_STATE,
                    dimension=name,
                    episode=index,
                    frames=(int(frame), int(frame) + 1),
                    message=f"jumps by {sizes[frame]:.4g} in one frame, its range is {spread:.4g}",
                )


def constant(recording: Recording) -> Iterator[Finding]:
    """A dimension that never changes in the whole data set."""
    partners = {(ACTION, action): (OBS_STATE, state) for _, action, state in recording.pairs}
    partners |= {partner: own for own, partner in partners.items()}
    for key in (OBS_STATE, ACTION):
        for place, name in enumerate(recording.names(key) if key in recording.vectors else []):
            values = recording.vectors[key][:, place]
            if not np.isfinite(values).all() or np.ptp(values) > 0:
                continue
            partner = partners.get((key, place))
            partner_moves = partner is not None and np.ptp(recording.vectors[partner[0]][:, partner[1]]) > 0
            dead = partner is not None and key == OBS_STATE and partner_moves and not is_gripper(name)
            yield Finding(
                severity="problem" if dead else "note",
                feature=key,
                dimension=name,
                message=f"is {values[0]:.4g} in every frame" + (", though its action moves" if dead else ""),
            )


def state_frozen(recording: Recording) -> Iterator[Finding]:
    """A joint whose reading stands still to the last bit while it is told to move."""
    shortest = _frames(recording, STANDSTILL_SECONDS)
    for name, action, state in recording.pairs:
        states, actions = recording.vectors[OBS_STATE][:, state], recording.vectors[ACTION][:, action]
        spread = np.ptp(actions)
        if is_gripper(name) or not np.ptp(states) > 0 or not spread > 0:
            continue
        for episode in recording.episodes:
            still = np.diff(states[episode.start : episode.stop]) == 0
            for first, last in stretches(still, shortest - 1):
                told = actions[episode.start + first : episode.start + last + 2]
                share = np.ptp(told) / spread
                if share > MOVES:
                    yield Finding(
                        feature=OBS_STATE,
                        dimension=name,
                        episode=episode.index,
                        frames=(first, last + 1),
                        message=f"stands still while its action moves by {share:.0%} of its range",
                    )


def _frames(recording: Recording, seconds: float) -> int:
    return max(SHORTEST_STANDSTILL, round(seconds * recording.metadata.fps))


def action_saturated(recording: Recording) -> Iterator[Finding]:
    """A command that rests at its limit while the joint is elsewhere; a share of frames for other actions."""
    if ACTION not in recording.vectors:
        return
    states = {action: state for _, action, state in recording.pairs}
    for place, name in enumerate(recording.names(ACTION)):
        values = recording.vectors[ACTION][:, place]
        spread = np.ptp(values)
        if is_gripper(name) or not spread > 0:
            continue
        at_limit = (values == values.max()) | (values == values.min())
        if place in states:
            away = np.abs(values - recording.vectors[OBS_STATE][:, states[place]]) > OUT_OF_REACH * spread
            yield from _unreachable(recording, name, at_limit & away)
        elif at_limit.mean() > 0.5 and len(np.unique(values)) > 10:
            yield Finding(
                severity="note",
                feature=ACTION,
                dimension=name,
                message=f"is at its limits in {at_limit.mean():.0%} of the frames",
            )


def _unreachable(recording: Recording, name: str, mask: np.ndarray) -> Iterator[Finding]:
    for episode in recording.episodes:
        for first, last in stretches(
            mask[episode.start : episode.stop], _frames(recording, STANDSTILL_SECONDS)
        ):
            yield Finding(
                feature=ACTION,
                dimension=name,
                episode=episode.index,
                frames=(first, last),
                message="stays at its limit, and the joint elsewhere",
            )


def action_equals_state(recording: Recording) -> Iterator[Finding]:
    """Actions that are the state of the same frame: a policy can only learn to stand still."""
    paired = _moving_pairs(recording)
    for episode in recording.episodes:
        action, state = (values[episode.start : episode.stop] for values in paired)
        if action.shape[1] and np.ptp(action, axis=0).any() and np.allclose(action, state, rtol=0, atol=1e-5):
            yield Finding(feature=ACTION, episode=episode.index, message="equals the state of the same frame")


def action_misaligned(recording: Recording) -> Iterator[Finding]:
    """Actions behind the movement that they cause, or long before it: columns shifted against each other."""
    fps = recording.metadata.fps
    paired = _moving_pairs(recording)
    for episode in recording.episodes:
        action, state = (values[episode.start : episode.stop] for values in paired)
        lag = _best_lag(action, state, min(round(1.5 * fps), episode.length // 3))
        if lag is None or 0 <= lag <= LAG_SECONDS * fps:
            continue
        how = "behind" if lag < 0 else "ahead of"
        yield Finding(
            feature=ACTION,
            episode=episode.index,
            message=f"is {abs(lag)} frames ({abs(lag) / fps:.2g} s) {how} the movement of the state",
        )


def _moving_pairs(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Actions and states (N, number of pairs) of joints that move, in units of the state's range."""
    pairs = recording.pairs
    if not pairs:
        empty = np.zeros((len(recording.columns["index"]), 0))
        return empty, empty
    action = recording.vectors[ACTION][:, [place for _, place, _ in pairs]].astype(np.float64)
    state = recording.vectors[OBS_STATE][:, [place for _, _, place in pairs]].astype(np.float64)
    spread = np.ptp(state, axis=0)
    moving = (spread > 0) & np.isfinite(spread) & np.isfinite(action).all(axis=0)
    return action[:, moving] / spread[moving], state[:, moving] / spread[moving]


def _best_lag(action: np.ndarray, state: np.ndarray, longest: int) -> int | None:
    """Frames by which the state follows the action; None if no lag fits clearly better than none."""
    if not action.shape[1] or longest < 1:
        return None
    errors = {lag: _error(action, state, lag) for lag in range(-longest, longest + 1)}
    best = min(errors, key=lambda lag: errors[lag])
    return best if errors[best] < 0.5 * errors[0] and errors[best] < 0.1 else None


def _error(action: np.ndarray, state: np.ndarray, lag: int) -> float:
    """Share of an action's variance that the state, `lag` frames later, does not show: the median joint's."""
    size = len(action) - abs(lag)
    early, late = (action, state) if lag >= 0 else (state, action)
    difference = early[:size] - late[len(late) - size :]
    variance = action.var(axis=0)
    moving = variance > 0
    return float(np.median(difference.var(axis=0)[moving] / variance[moving])) if moving.any() else np.inf
