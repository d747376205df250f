"""Bad input, by the command line: exit code 2, one line with value and what was expected, nothing written.

Disks that fill up in the middle are tested beside what writes to them; here only the check beforehand.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embodied import cli
from embodied.data import cache as cache_module
from embodied.rendering_backend import BACKENDS
from tests.recordings import METAWORLD, change_info, change_numbers, data_file, episode_file, write_recording

Recording = Callable[[str], Path]

TINY = [
    "--policy.device=cpu",
    "--policy.dim=16",
    "--policy.depth=1",
    "--policy.heads=2",
    "--policy.head_dim=16",
    "--policy.head_depth=1",
    "--policy.head_heads=2",
    "--policy.num_latents=2",
]
TRAIN = ["train", *TINY, "--output_dir=run", "--steps=1", "--batch_size=2"]
SMALL_ENV = ["--env.task=reach", "--env.width=32", "--env.height=32"]
EVALUATE = ["evaluate", *SMALL_ENV, "--device=cpu", "--episodes=1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refuse(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command line that has to be refused with all of `parts` in one line and without a trace."""

    def run(args: list[str], *parts: str) -> None:
        before = sorted(folder.rglob("*"))
        capfd.readouterr()
        assert cli.main(args) == 2
        error = capfd.readouterr().err
        assert error.startswith("embodied: ")
        assert error.count("\n") == 1, error
        for part in (*parts, "expected"):
            assert part in error
        assert sorted(folder.rglob("*")) == before

    return run


@pytest.fixture
def data(recording: Recording, folder: Path) -> Callable[[str], Path]:
    """A copy of a clean recording, in `data`, without decoded pictures."""

    def copy(robot: str) -> Path:
        root = recording(robot)
        return Path(shutil.copytree(root, folder / "data", ignore=shutil.ignore_patterns(".cache")))

    return copy


# --- data sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["train", *TRAIN[1:]], ["inspect"]], ids=["train", "inspect"])
def test_a_missing_data_set(verb: list[str], refuse: Callable) -> None:
    refuse([*verb, "--dataset.root=nowhere"], "--dataset.root=nowhere", "meta/info.json")


@pytest.mark.parametrize("verb", [["train", *TRAIN[1:]], ["inspect"]], ids=["train", "inspect"])
def test_an_empty_folder(verb: list[str], refuse: Callable, folder: Path) -> None:
    (folder / "data").mkdir()
    refuse([*verb, "--dataset.root=data"], "--dataset.root=data", "LeRobotDataset")


@pytest.mark.parametrize("verb", [["train", *TRAIN[1:]], ["inspect"]], ids=["train", "inspect"])
def test_a_data_set_without_episodes(verb: list[str], refuse: Callable, data: Callable) -> None:
    change_info(data("metaworld"), total_episodes=0, total_frames=0)
    refuse([*verb, "--dataset.root=data"], "--dataset.root=data", "at least one episode")


@pytest.mark.parametrize("verb", [["train", *TRAIN[1:]], ["inspect"]], ids=["train", "inspect"])
@pytest.mark.parametrize("find", [data_file, episode_file])
def test_a_corrupted_parquet_file(verb: list[str], find: Callable, refuse: Callable, data: Callable) -> None:
    path = find(data("metaworld"))
    path.write_bytes(path.read_bytes()[:-40])
    refuse([*verb, "--dataset.root=data"], str(path.relative_to(Path.cwd())))


@pytest.mark.parametrize(
    ("key", "dimension", "name"), [("action", 2, "hand_dz"), ("observation.state", 0, "hand_x")]
)
def test_numbers_that_are_not_finite(
    key: str, dimension: int, name: str, refuse: Callable, data: Callable
) -> None:
    def spoil(values: np.ndarray) -> None:
        values[65, dimension] = np.nan

    change_numbers(data("metaworld"), key, spoil)
    refuse([*TRAIN, "--dataset.root=data"], f"{key} {name} is nan in episode 1, frame 5")


def test_no_room_for_decoded_pictures(
    refuse: Callable, data: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One camera is decoded already, for the other one there is no room."""
    root = data("metaworld")
    cache_module.FrameCache.open(root, cameras="corner")
    usage = shutil.disk_usage(root)._replace(free=100)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
    refuse([*TRAIN, "--dataset.root=data"], "GB of free space for decoded pictures")


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--dataset.cameras=left", "no camera left, expected some of observation.images.corner"),
        ("--dataset.cameras=corner:a,gripper:a", "gripper:a, expected each camera and name once"),
        ("--dataset.cameras=,", "expected at least one colour camera"),
        ("--dataset.episodes=[4]", "--dataset.episodes: 4, expected some of 0 to 3"),
        ("--dataset.episodes=[]", "--dataset.episodes: [], expected some of 0 to 3"),
        ("--dataset.augmentation=flip", "--dataset.augmentation=flip: expected one of"),
        ("--dataset.task_weights={walk: 2}", "no task 'walk', expected some of"),
    ],
)
def test_a_choice_that_the_data_set_does_not_have(
    flag: str, named: str, refuse: Callable, data: Callable, recording: Recording
) -> None:
    """The pictures are decoded beforehand: decoding them is no mistake."""
    root = data("metaworld")
    cache_module.FrameCache.open(root)
    refuse([*TRAIN, "--dataset.root=data", flag], named)


# --- contradictory flags --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dataset.success_only=true", "--dataset.episodes=[3]"], "no episode of --dataset.episodes=[3]"),
        (
            ["--policy.relative_actions=true"],
            "--policy.relative_actions=true: expected joints named the same",
        ),
        (
            ["--policy.relative_actions=true", "--policy.normalization_mapping={ACTION: IDENTITY}"],
            "IDENTITY for ACTION, expected another with --policy.relative_actions=true",
        ),
        (["--policy.n_action_steps=20"], "--policy.n_action_steps=20: expected at most chunk_size=12"),
        (
            ["--policy.world_model=true", "--policy.imagination=latent", "--policy.imagine_subgoals=true"],
            "--policy.imagine_subgoals=true: data has no sub-goals",
        ),
        (["--eval_freq=1"], "--eval_freq=1: expected an environment"),
        (["--resume=true"], "--resume=true: run holds no checkpoint"),
    ],
)
def test_flags_that_contradict_each_other_or_the_data(
    flags: list[str], named: str, refuse: Callable, data: Callable
) -> None:
    cache_module.FrameCache.open(data("metaworld"))
    refuse([*TRAIN, "--dataset.root=data", *flags], named)


def test_successes_of_a_data_set_that_marks_none(refuse: Callable, data: Callable) -> None:
    data("aloha")
    refuse([*TRAIN, "--dataset.root=data", "--dataset.success_only=true"], "marks no success")


def test_an_output_folder_that_is_taken(refuse: Callable, data: Callable, folder: Path) -> None:
    data("metaworld")
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").write_text("mine")
    refuse([*TRAIN, "--dataset.root=data"], "--output_dir=run: exists and is not empty", "--resume=true")


def test_films_without_a_folder_for_them(refuse: Callable, folder: Path) -> None:
    (folder / "run").mkdir()
    refuse([*EVALUATE, "--policy.path=run", "--videos=2"], "--videos=2: expected --output_dir")


def test_a_folder_given_twice(refuse: Callable) -> None:
    refuse(["inspect", "a", "--dataset.root=b"], "--dataset.root is given as well as a")


# --- world models ---------------------------------------------------------------------------------

WORLD = ["train", "--model.type=jepa", "--model.device=cpu", "--model.dim=16", "--model.num_latents=2"]
TRAIN_WORLD = [*WORLD, "--dataset.root=data", "--output_dir=run", "--steps=1", "--batch_size=2"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--policy.preset=tiny"], "--policy.type and --model.type: both are given: expected one of them"),
        (["--model.type=jepo"], "--model.type=jepo: expected one of jepa, lewm"),
        (["--model.latents=3"], "--model.latents is no flag here: expected --model.num_latents"),
        (["--model.preset=huge"], "--model.preset=huge: expected one of tiny, small"),
        (["--model.tower=resnet19"], "image tower 'resnet19': expected one of strided12"),
        (["--model.history=0"], "--model.history=0: expected at least 1"),
        (["--model.teacher=dyno"], "--model.teacher=dyno: expected none or a timm model"),
        (["--model.teacher=test_resnet"], "--model.teacher=test_resnet: its weights cannot be had"),
        (["--model.device=abacus"], "--model.device=abacus: expected a device that this machine has"),
        (["--eval_freq=1", *SMALL_ENV], "--eval_freq=1: expected 0 with --model, which does not act"),
    ],
)
def test_a_world_model_that_cannot_be_trained(
    flags: list[str], named: str, refuse: Callable, data: Callable
) -> None:
    cache_module.FrameCache.open(data("metaworld"))
    refuse([*TRAIN_WORLD, *flags], named)


def test_a_start_from_what_is_no_world_model(refuse: Callable, data: Callable, folder: Path) -> None:
    cache_module.FrameCache.open(data("metaworld"))
    start = ["--policy.world_model_path=world"]
    refuse([*TRAIN, "--dataset.root=data", *start], "world: does not exist")
    assert cli.main([*TRAIN, "--dataset.root=data", "--output_dir=world"]) == 0
    refuse([*TRAIN, "--dataset.root=data", *start], "holds a latent_vla: expected a world model")


def test_a_world_model_does_not_act(refuse: Callable, data: Callable) -> None:
    data("metaworld")
    assert cli.main(TRAIN_WORLD) == 0
    refuse([*EVALUATE, "--policy.path=run"], "holds a jepa: expected a policy")


# --- misspellings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (
            ["train", "--dataset.rot=data", "--output_dir=run"],
            "--dataset.rot is no flag here: expected --dataset.root",
        ),
        (["train", "--polcy.preset=tiny"], "--polcy.preset is no flag here: expected --policy.preset"),
        (["inspect", "data", "--all_frame=true"], "--all_frame is no flag here: expected --all_frames"),
        (["trian"], "trian: expected one of"),
        (
            [*TRAIN, "--dataset.root=data", "--policy.type=latent_vlm"],
            "--policy.type=latent_vlm: expected one of",
        ),
        (
            [*TRAIN, "--dataset.root=data", "--policy.normalization_mapping={STAET: MIN_MAX}"],
            "STAET, expected one of VISUAL, STATE, ENV, ACTION",
        ),
        (
            [*TRAIN, "--dataset.root=data", "--policy.normalization_mapping={STATE: quantiles}"],
            "{STATE: quantiles}: expected a mapping such as {name: value} with values MIN_MAX, MEAN_STD",
        ),
        ([*TRAIN, "--dataset.root=data", "--dataset.success_only=perhaps"], "expected true or false"),
    ],
)
def test_a_misspelling(args: list[str], named: str, refuse: Callable) -> None:
    refuse(args, named)


@pytest.mark.render
@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--env.task=reech", "reech"),
        ("--env.cameras=corner,nowhere", "nowhere"),
        ("--env.tsk=reach", "--env.tsk is no flag here: expected --env.task"),
    ],
)
@pytest.mark.parametrize("verb", [["collect", "--dataset.root=data"], ["evaluate", "--policy.path=run"]])
def test_an_unknown_task_or_camera(verb: list[str], flag: str, named: str, refuse: Callable) -> None:
    refuse([*verb, flag], named)


# --- robots and machines --------------------------------------------------------------------------


@pytest.mark.render
def test_a_checkpoint_of_another_robot(
    refuse: Callable, data: Callable, capfd: pytest.CaptureFixture
) -> None:
    """ALOHA's camera, then its state, are not Meta-World's."""
    data("aloha")
    cameras = "--dataset.cameras=cam_high:corner"
    assert cli.main([*TRAIN, "--dataset.root=data", cameras]) == 0
    refuse([*EVALUATE, "--policy.path=run"], "observation.state is 14: expected the environment's 4")
    assert cli.main([*TRAIN, "--dataset.root=data", "--output_dir=own"]) == 0
    refuse(
        [*EVALUATE, "--policy.path=own"], "feature observation.images.cam_high", "observation.images.corner"
    )


@pytest.mark.render
def test_actions_of_another_size_than_the_environments(refuse: Callable, folder: Path) -> None:
    """Refused before training where it is to be evaluated, and at the evaluation of what was trained."""
    names = [f"joint_{number}" for number in range(7)]
    robot = dataclasses.replace(METAWORLD, action=names, lengths=(12, 12))
    root = write_recording(folder / "data", robot)
    cache_module.FrameCache.open(root)
    refuse(
        [*TRAIN, "--dataset.root=data", *SMALL_ENV, "--eval_freq=1"],
        "action is 7: expected the environment's 4",
    )
    assert cli.main([*TRAIN, "--dataset.root=data"]) == 0
    refuse([*EVALUATE, "--policy.path=run"], "action is 7: expected the environment's 4")


def test_a_checkpoint_that_is_none(refuse: Callable, folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps({"type": "latent_vla"}))
    refuse([*EVALUATE, "--policy.path=run"], "run")


def test_a_machine_that_cannot_draw(refuse: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embodied.rendering_backend.REMEMBERED", folder / "renderer.env")
    monkeypatch.setattr("embodied.rendering_backend.try_backend", lambda backend: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    refuse(
        ["collect", "--env.task=reach", "--dataset.root=data"],
        "off-screen rendering",
        *(backend.name for backend in BACKENDS),
        "apt-get install",
    )


def test_a_renderer_that_mujoco_does_not_know(refuse: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    refuse(["collect", "--env.task=reach", "--dataset.root=data"], "MUJOCO_GL=vulkan: expected one of egl")
