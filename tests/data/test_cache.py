"""Pictures are decoded once per content of the data set; what cannot be used is refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from embodied.data import cache as cache_module
from embodied.data.cache import CACHE_FOLDER, FrameCache
from embodied.data.dataset import fingerprint
from embodied.errors import UserError

CORNER, GRIPPER = "observation.images.corner", "observation.images.gripper"


@pytest.fixture
def root(picture_root: Path, tmp_path: Path) -> Path:
    """A copy to change, without decoded pictures."""
    shutil.copytree(picture_root, tmp_path / "set", ignore=shutil.ignore_patterns(".cache"))
    return tmp_path / "set"


def decoded(root: Path) -> dict[str, int]:
    """Time of change of each file of decoded pictures."""
    return {str(path): path.stat().st_mtime_ns for path in (root / CACHE_FOLDER).rglob("*.npy")}


def rewrite_column(root: Path, key: str, values: list) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(key)
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(values, table.schema.types[place])), path
    )


def test_pictures_are_decoded_once(root: Path) -> None:
    FrameCache.open(root)
    before = decoded(root)
    assert len(before) == 2
    FrameCache.open(root)
    assert decoded(root) == before


def test_another_camera_is_added_to_those_already_decoded(root: Path) -> None:
    assert list(FrameCache.open(root, cameras="gripper").images) == [GRIPPER]
    before = decoded(root)
    assert list(FrameCache.open(root, cameras="corner,gripper").images) == [CORNER, GRIPPER]
    assert decoded(root).items() > before.items()


def test_changed_data_are_decoded_afresh_and_the_former_pictures_deleted(root: Path) -> None:
    former = FrameCache.open(root)
    pictures = pq.read_table(root / "data/chunk-000/file-000.parquet")[CORNER].to_pylist()
    rewrite_column(root, CORNER, pictures[::-1])
    cache = FrameCache.open(root)
    assert cache.fingerprint != former.fingerprint
    np.testing.assert_array_equal(cache.images[CORNER], former.images[CORNER][::-1])
    assert [path.name for path in (root / CACHE_FOLDER).iterdir() if path.is_dir()] == [cache.fingerprint]


def test_the_fingerprint_is_of_the_content_not_of_the_place(picture_root: Path, root: Path) -> None:
    assert fingerprint(root) == fingerprint(picture_root) == FrameCache.open(root).fingerprint


def test_a_decoding_that_fails_leaves_nothing(root: Path) -> None:
    pictures = pq.read_table(root / "data/chunk-000/file-000.parquet")[CORNER].to_pylist()
    rewrite_column(root, CORNER, [*pictures[:-1], {"bytes": b"no picture", "path": None}])
    with pytest.raises(UserError, match=r"file-000\.parquet"):
        FrameCache.open(root)
    assert not decoded(root)
    assert len(list((root / CACHE_FOLDER).rglob("*"))) == 2  # the digests and an empty folder


def test_lerobot_and_its_upload_do_not_see_the_decoded_pictures(root: Path) -> None:
    cache = FrameCache.open(root)
    assert len(LeRobotDataset("local/small", root=root, video_backend="pyav")) == cache.num_frames
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    uploaded = list(filter_repo_objects(names, ignore_patterns=DEFAULT_IGNORE_PATTERNS))
    assert uploaded
    assert not [name for name in uploaded if ".cache" in name]


def test_a_disk_without_room_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root)._replace(free=100)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="free space"):
        FrameCache.open(root)


def test_columns_have_lerobots_shapes(picture_root: Path) -> None:
    cache = FrameCache.open(picture_root)
    assert cache.num_frames == 20
    assert cache.num_episodes == 3
    assert cache.columns["action"].shape == (20, 2)
    assert cache.columns["next.reward"].tolist() == [i / 2 for i in range(20)]
    assert cache.columns["note"][3] == "frame 3"
    assert cache.first[[0, 6, 7, 8, 19]].tolist() == [0, 0, 7, 8, 8]
    assert cache.last[[0, 6, 7, 8, 19]].tolist() == [6, 6, 7, 19, 19]
    assert cache.tasks.tolist() == ["push the puck", "open the drawer"]
    assert set(cache.features) == {*cache.images, *cache.columns}


@pytest.mark.parametrize("cameras", ["left", "corner,left", ""])
def test_an_unknown_camera_is_named(picture_root: Path, cameras: str) -> None:
    with pytest.raises(UserError, match=f"--dataset.cameras={cameras}: "):
        FrameCache.open(picture_root, cameras=cameras)


def test_a_camera_is_renamed_and_the_others_dropped(picture_root: Path) -> None:
    plain = FrameCache.open(picture_root)
    cache = FrameCache.open(picture_root, cameras="corner:wrist")
    assert list(cache.images) == ["observation.images.wrist"]
    np.testing.assert_array_equal(cache.images["observation.images.wrist"], plain.images[CORNER])
    assert cache.features["observation.images.wrist"]["shape"] == plain.features[CORNER]["shape"]
    assert not {CORNER, GRIPPER} & set(cache.features)


def test_two_cameras_swap_their_names(picture_root: Path) -> None:
    plain = FrameCache.open(picture_root)
    cache = FrameCache.open(picture_root, cameras="corner:gripper, gripper:observation.images.corner")
    np.testing.assert_array_equal(cache.images[GRIPPER], plain.images[CORNER])
    np.testing.assert_array_equal(cache.images[CORNER], plain.images[GRIPPER])


@pytest.mark.parametrize(
    ("cameras", "named"),
    [
        ("left:corner", "no camera left"),
        ("corner:", "corner:, expected a name or old:new"),
        ("corner:a:b", "corner:a:b, expected a name or old:new"),
        ("corner:a,gripper:a", "gripper:a, expected each camera and name once"),
        ("corner:a,corner:b", "corner:b, expected each camera and name once"),
        ("corner:gripper,gripper", "gripper, expected each camera and name once"),
    ],
)
def test_unusable_names_of_cameras_are_refused(picture_root: Path, cameras: str, named: str) -> None:
    with pytest.raises(UserError, match=f"--dataset.cameras={cameras}: {named}"):
        FrameCache.open(picture_root, cameras=cameras)


@pytest.mark.parametrize("key", ["action", "observation.state"])
def test_numbers_that_are_not_finite_are_named(root: Path, key: str) -> None:
    values = pq.read_table(root / "data/chunk-000/file-000.parquet")[key].to_pylist()
    values[9][1] = float("nan")
    rewrite_column(root, key, values)
    with pytest.raises(UserError, match=rf"{key} d?y is nan in episode 2, frame 1: expected finite numbers"):
        FrameCache.open(root)
    assert FrameCache.open(root, episodes=[0, 1]).frames.tolist() == list(range(8))


@pytest.mark.parametrize(
    "missing", ["meta/info.json", "meta/tasks.parquet", "meta/episodes", "data", "."], ids=str
)
def test_what_is_missing_is_named(root: Path, missing: str) -> None:
    path = root / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(UserError, match="expected a LeRobotDataset folder") as refusal:
        FrameCache.open(root)
    assert str(root) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_empty_data_set_is_refused(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"total_episodes": 0, "total_frames": 0}))
    with pytest.raises(UserError, match="at least one episode"):
        FrameCache.open(root)


def test_an_older_version_is_refused(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
    with pytest.raises(UserError, match="expected a LeRobotDataset of version 3"):
        FrameCache.open(root)


@pytest.mark.parametrize(
    "damaged", ["meta/info.json", "meta/tasks.parquet", "data/chunk-000/file-000.parquet"], ids=str
)
def test_a_damaged_file_is_refused_in_one_line(root: Path, damaged: str) -> None:
    path = root / damaged
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError) as refusal:
        FrameCache.open(root)
    assert str(root) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_damaged_film_is_refused_in_one_line(film_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(film_root, root, ignore=shutil.ignore_patterns(".cache"))
    film = next((root / "videos" / CORNER).rglob("*.mp4"))
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(UserError) as refusal:
        FrameCache.open(root)
    assert str(film) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_rows_of_another_episode_than_the_metadata_say_are_refused(root: Path) -> None:
    indices = pq.read_table(root / "data/chunk-000/file-000.parquet")["episode_index"].to_pylist()
    rewrite_column(root, "episode_index", [0, *indices[:-1]])
    with pytest.raises(UserError, match="expected the frames of each episode as in meta/episodes"):
        FrameCache.open(root)


def test_rows_that_the_metadata_do_not_know_are_refused(root: Path) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 19), path)
    with pytest.raises(UserError, match="expected 20 frames"):
        FrameCache.open(root)
