"""Does a recording survive kill -9? Start `embodied run --record`, kill it at any moment, open what is left.

One data set goes through all kills, so that every run has to go on where a killed one was. What is left has
to open in stock LeRobot, with every episode that a run had said was written, all its frames included, and
those of before as they were.
"""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied.chaos.relay import LOOPBACK
from embodied.chaos.stage import Client, Stage, robot_flags
from embodied.data.commit import COMMITTED, PENDING, is_unfinished
from embodied.data.kill_trials import POLL_SECONDS, Moment, Pace, draw_moments, opened
from embodied.data.writer import count_episodes
from embodied.errors import UserError

EPISODE_SECONDS = 1.0
EPISODES = 3
"""Of a run that is killed, at most; it would go on for ever."""

WRITING_SECONDS = 0.02
"""About how long an episode of a second is written."""

SIGNS = {"episode": "", "writing": PENDING, "committing": COMMITTED}
"""What has to be in the data set's folder when a moment begins."""

START_SECONDS = 120.0
SAID = re.compile(r"^episode \d+: .*, (\d+) frames written$", re.MULTILINE)


@dataclass(kw_only=True)
class Recording:
    """A data set and what is known to be in it. lengths: frames of its episodes; digests: of their content;
    owes: whether the last kill left an episode that counts, and that the next run has to put in its place.
    """

    root: Path
    lengths: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    owes: bool = False


def moments(count: int, seed: int) -> list[Moment]:
    """When to kill, half of the times while an episode is written."""
    pace = Pace(first=1.2 * EPISODE_SECONDS, each=1.2 * EPISODE_SECONDS, writing=WRITING_SECONDS)
    return draw_moments(count, EPISODES, pace, seed)


def try_kill(stage: Stage, recording: Recording, moment: Moment, folder: Path) -> dict[str, Any]:
    """Record, kill at the moment, check.

    folder: an empty one for what the run writes. Returns the moment, `said` (episodes that the run said were
    written), `kept` (by the data set, of this run and of what the one before was owed), `left` (folders of a
    commit that was under way) and `problems`, empty if all is well.
    """
    client = _start(stage, recording, folder, episodes=10_000)
    before = count_episodes(recording.root)
    _wait_for_motion(client)
    while client.is_alive and not _is_reached(moment, recording.root, before):
        time.sleep(POLL_SECONDS)
    time.sleep(moment.seconds)
    client.kill()
    return {**asdict(moment), **_check(recording, client)}


def finish(stage: Stage, recording: Recording, folder: Path) -> dict[str, Any]:
    """Record one more episode, undisturbed; returns what `try_kill` returns, without a moment."""
    client = _start(stage, recording, folder, episodes=1)
    exit_code = client.end(is_asked=False)
    found = _check(recording, client)
    if exit_code != 0 or found["said"] != 1 or is_unfinished(recording.root):
        found["problems"].append(f"the last run ended with {exit_code}: {client.last_line()}")
    return found


def _start(stage: Stage, recording: Recording, folder: Path, *, episodes: int) -> Client:
    stage.ensure_server()
    settings: Mapping[str, Any] = {
        "robot": robot_flags(stage.robot),
        "server": {"url": f"ws://{LOOPBACK}:{stage.server.port}"},
        "task": stage.instruction,
        "record": str(recording.root),
        "seconds": EPISODE_SECONDS,
        "episodes": episodes,
    }
    return Client(folder, settings)


def _wait_for_motion(client: Client) -> None:
    until = time.monotonic() + START_SECONDS
    while len(client.ticks.rows()) < 2:
        if not client.is_alive or time.monotonic() > until:
            raise UserError(f"`embodied run` does not get to run: {client.last_line()}")
        time.sleep(POLL_SECONDS)


def _is_reached(moment: Moment, root: Path, before: int) -> bool:
    return count_episodes(root) >= before + moment.episodes and (root / SIGNS[moment.sign]).exists()


def _check(recording: Recording, client: Client) -> dict[str, Any]:
    """Compare the data set with what the run said, and note what is in it now."""
    root = recording.root
    said = [int(frames) for frames in SAID.findall(client.log.read_text())]
    left = [name for name in (PENDING, COMMITTED) if (root / name).exists()]
    lengths, digests = _content(root)
    known = len(recording.lengths)
    problems = []
    if digests[:known] != recording.digests:
        problems.append("an episode of before has changed, or is gone")
    kept = lengths[known:]
    # What the kill before had left may stand before the run's own, and one may be there that it had no time
    # to speak of.
    ways = [kept[owed:] for owed in range(1 + recording.owes)]
    if not any(own[: len(said)] == said and len(own) <= len(said) + 1 for own in ways):
        problems.append(f"said to be written were episodes of {said} frames, found are {kept}")
    recording.lengths, recording.digests, recording.owes = lengths, digests, COMMITTED in left
    return {"said": len(said), "kept": len(kept), "left": left, "problems": problems}


def _content(root: Path) -> tuple[list[int], list[str]]:
    """Length and digest of every episode, every frame of which is read with stock LeRobot."""
    if not count_episodes(root):
        return [], []
    lengths, digests = [], []
    with opened(root) as (dataset,):
        rows, episodes = iter(range(dataset.num_frames)), dataset.meta.episodes
        assert episodes is not None
        for episode in range(dataset.num_episodes):
            length = int(episodes[episode]["length"])
            digest = hashlib.sha256()
            for place in range(length):
                frame: Any = dataset[next(rows)]
                if (int(frame["episode_index"]), int(frame["frame_index"])) != (episode, place):
                    raise ValueError(f"frame {place} of episode {episode}: another one stands there")
                for key in ("action", "observation.state", *dataset.meta.camera_keys):
                    digest.update(np.ascontiguousarray(frame[key].numpy()).tobytes())
            lengths.append(length)
            digests.append(digest.hexdigest())
        if next(rows, None) is not None:
            raise ValueError(f"{root}: expected no frame beside those of its episodes")
    return lengths, digests
