from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.data.cache import FrameCache
from embodied.errors import UserError
from embodied.serving.loop import Frame
from embodied.serving.recording import EpisodeRecorder
from tests.serving.fakes import ROBOT, SO101


def frame(number: int) -> Frame:
    seen = {name: float(number) for name in SO101.names}
    picture = np.full((2, 3, 3), number, np.uint8)
    return Frame(seen={**seen, "front": picture}, command=np.full(6, number + 0.5), decided=True)


def record(
    root: Path, lengths: list[int], *, interrupted: bool = False, knows_success: bool = True
) -> EpisodeRecorder:
    recorder = EpisodeRecorder(root, ROBOT, task="wave", knows_success=knows_success)
    for length in lengths:
        for number in range(length):
            recorder.add(frame(number))
        recorder.end_episode(interrupted=interrupted).result()
    return recorder


def test_what_was_seen_and_sent_is_on_the_disk_when_an_episode_ends(tmp_path: Path) -> None:
    recorder = record(tmp_path, [3, 2])
    recorder.add(frame(0))  # never ended: as if killed here
    dataset = LeRobotDataset("local/run", root=tmp_path)
    assert (dataset.num_episodes, dataset.num_frames) == (2, 5)
    assert dataset.meta.robot_type == "sim_so101"
    last = dataset[4]
    assert last["action"].tolist() == [1.5] * 6
    assert last["observation.state"].tolist() == [1.0] * 6
    assert (last["observation.images.front"] * 255).round().unique().tolist() == [1.0]
    assert (last["task"], last["behaviour"]) == ("wave", "policy")
    recorder.close()


def test_a_later_run_adds_to_it_and_marks_what_was_interrupted(tmp_path: Path) -> None:
    record(tmp_path, [2]).close()
    record(tmp_path, [3], interrupted=True).close()
    dataset = LeRobotDataset("local/run", root=tmp_path)
    assert [dataset[i]["behaviour"] for i in (0, 4)] == ["policy", "policy_interrupted"]


def test_an_episode_without_a_frame_is_none(tmp_path: Path) -> None:
    recorder = record(tmp_path, [0])
    assert recorder.num_episodes == 0
    recorder.close()


def test_the_frame_before_a_task_is_solved_reached_it(tmp_path: Path) -> None:
    recorder = EpisodeRecorder(tmp_path, ROBOT, task="wave", knows_success=True)
    for solved in ([False, False, True, True], [False] * 3):
        for number, is_solved in enumerate(solved):
            recorder.add(frame(number), solved=is_solved)
        recorder.end_episode(interrupted=False).result()
    recorder.close()
    dataset = LeRobotDataset("local/run", root=tmp_path)
    marks = [bool(dataset[i]["next.success"]) for i in range(dataset.num_frames)]
    assert marks == [False, True, True, True, False, False, False]
    assert FrameCache.open(tmp_path, success_only=True).episodes.tolist() == [0]


def test_a_robot_that_cannot_tell_marks_neither_success_nor_failure(tmp_path: Path) -> None:
    record(tmp_path, [2, 3], knows_success=False).close()
    dataset = LeRobotDataset("local/run", root=tmp_path)
    assert not {"next.success", "next.reward"} & set(dataset.features)
    assert np.isnan(FrameCache.open(tmp_path).steps_to_success).all()
    with pytest.raises(UserError, match=r"--dataset.success_only=true: .* marks no success"):
        FrameCache.open(tmp_path, success_only=True)


def test_a_data_set_of_another_robot_is_not_added_to(tmp_path: Path) -> None:
    record(tmp_path, [2], knows_success=False).close()
    with pytest.raises(UserError, match=r"a data set with columns .*: expected .*next.success.*, or a new"):
        record(tmp_path, [2], knows_success=True)
