"""What the robot saw and was told, as a LeRobotDataset; when an episode's end returns, it is on the disk.

Pictures are encoded in a thread while the episode runs, so that the control loop does not wait. The action on
record is the command that was sent. A kill loses the running episode at most.

A joints, S state size.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from embodied.data.behaviours import EpisodeJob, RecordedEpisode, count_pixels, encode_png
from embodied.data.writer import EpisodeWriter, RobotSource
from embodied.serving.loop import Frame
from embodied.serving.specification import Specification

POLICY, INTERRUPTED = "policy", "policy_interrupted"
"""Marks of episodes, in the column `behaviour`: an interrupted one held in between."""

Row = tuple[np.ndarray, np.ndarray, bool]
"""State and action of a frame, and whether the task was solved when it was seen."""

Picture = tuple[bytes, np.ndarray]
"""PNG file, and histogram (3, 256)."""


class EpisodeRecorder:
    """Keeps the frames of one episode after another."""

    def __init__(self, root: Path, robot: Specification, *, task: str, knows_success: bool) -> None:
        """root: folder of a data set, a new one or one that the same robot has begun; task: instruction.

        knows_success: whether the robot can tell that a task is solved; if not, the data set marks no
        success. Raises UserError for a data set of another robot.
        """
        root.mkdir(parents=True, exist_ok=True)
        self._robot, self._task = robot, task
        source = RobotSource(
            fps=round(robot.fps),
            robot_type=robot.robot_type,
            pictures=robot.cameras,
            state_names=robot.state.names,
            action_names=robot.action.names,
            knows_success=knows_success,
        )
        self._knows_success = knows_success
        self._writer = EpisodeWriter(root, source, video=False)
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._rows: list[Row] = []
        self._pictures: dict[str, list[Future[Picture]]] = {name: [] for name in robot.cameras}

    @property
    def num_episodes(self) -> int:
        """Episodes on the disk."""
        return self._writer.num_episodes

    @property
    def num_frames(self) -> int:
        """Frames of the running episode."""
        return len(self._rows)

    def add(self, frame: Frame, *, solved: bool = False) -> None:
        """Keep a frame of the running episode, in which the task is solved or not."""
        state = np.array([frame.seen[name] for name in self._robot.state.names], np.float32)
        self._rows.append((state, frame.command.astype(np.float32), solved))
        for name, pictures in self._pictures.items():
            pictures.append(self._encoders.submit(_encoded, frame.seen[name]))

    def end_episode(self, *, interrupted: bool) -> Future[None]:
        """Begin to write the running episode; when the result is there, it is on the disk.

        interrupted: whether the robot held.
        """
        rows, pictures = self._rows, self._pictures
        self._rows, self._pictures = [], {name: [] for name in pictures}
        # The same thread encodes, so all pictures are done by then.
        return self._encoders.submit(self._write, rows, pictures, INTERRUPTED if interrupted else POLICY)

    def close(self) -> None:
        """Drop the running episode, once what was written is on the disk."""
        self._encoders.shutdown(cancel_futures=False)

    def _write(
        self,
        rows: list[Row],
        pictures: dict[str, list[Future[Picture]]],
        kind: str,
    ) -> None:
        if not rows:
            return
        states, actions, solved = zip(*rows, strict=True)
        index = self._writer.num_episodes
        job = EpisodeJob(task=self._task, behaviour=kind, index=index, seed=0, noise=0.0, wanted="any")
        episode = RecordedEpisode(
            job=job,
            env_seed=0,
            instruction=self._task,
            state=np.stack(states),
            action=np.stack(actions),
            reward=None,
            # What an action has reached is seen in the next frame; of the last one, in itself.
            success=np.array([*solved[1:], solved[-1]]) if self._knows_success else None,
        )
        for name, futures in pictures.items():
            files, counts = zip(*[future.result() for future in futures], strict=True)
            episode.pictures[name], episode.pixel_counts[name] = list(files), np.sum(counts, axis=0)
        self._writer.add(episode)


def _encoded(picture: np.ndarray) -> Picture:
    return encode_png(picture), count_pixels(picture[None])
