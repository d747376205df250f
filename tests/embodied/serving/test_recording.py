from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.serving.loop import Frame
from embodied.serving.recording import EpisodeRecorder
from tests.embodied.serving.fakes import ROBOT, SO101


def frame(number: int) -> Frame:
    seen = {name: float(number) for name in SO101.names}
    picture = np.full((2, 3, 3), number, np.uint8)
    return Frame(seen={**seen, "front": picture}, command=np.full(6, number + 0.5), decided=True)


def record(root: Path, lengths: list[int], *, interrupted: bool = False) -> EpisodeRecorder:
    recorder = EpisodeRecorder(root, ROBOT, task="wave")
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
