"""`evaluate --model.path`: every number beside its floor, one line about each mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embodied import cli
from embodied.config import CollectConfig, DatasetConfig, DiagnoseConfig, SavedModel, TrainConfig
from embodied.data.cache import FrameCache
from embodied.data.collect import collect
from embodied.errors import UserError
from embodied.evaluation.diagnostics.diagnose import DIAGNOSTICS, diagnose
from embodied.evaluation.diagnostics.model import check_dataset
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.training.loop import train
from policies.latent_vla import LatentVLAConfig
from tests.evaluation.diagnostics.conftest import CAMERA, WITH_WORLD_MODEL, PointWorld, collect_points
from tests.fake_envs import PointEnvConfig


def configure(model: Path, dataset: DatasetConfig | None = None, **changes: Any) -> DiagnoseConfig:
    settings: dict[str, Any] = {
        "model": SavedModel(path=model),
        "env": PointEnvConfig(task="east,west", episode_length=16),
        "dataset": dataset,
        "probe_episodes": 16,
        "edited_episodes": 2,
        "states": 4,
        "candidates": 6,
        "goals": 2,
        "planning": "candidates=8,iterations=1,elites=2",
        "seed": 100,
        "device": "cpu",
    }
    return DiagnoseConfig(**(settings | changes))


def test_every_diagnostic_of_a_policys_world_model_stands_beside_its_floor(
    save_checkpoint: Callable, points: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint("latent_vla", **WITH_WORLD_MODEL)
    result = diagnose(configure(folder, DatasetConfig(root=points), output_dir=tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "diagnostics.json").read_text()) == result
    assert len(result["checkpoint"]["sha256"]) == 64
    assert result["env"]["task"] == "east,west"
    found = result["diagnostics"]
    assert list(found) == list(DIAGNOSTICS)
    # Untrained dynamics predict that nothing ever changes: they are their own floor, and rank nothing.
    for row in found["rollout"]["horizons"]:
        assert row["error"] == pytest.approx(row["copy_error"])
        assert row["skill"] == pytest.approx(0.0, abs=1e-6)
    assert [row["steps"] for row in found["rollout"]["horizons"]] == [4, 8]
    assert {row["task"] for row in found["probes"]["landmarks"]} == {"east", "west"}
    assert {"r2", "floor"} <= set(found["probes"]["summary"][0])
    assert (found["ranking"]["states"], found["ranking"]["candidates"]) == (4, 6)
    assert found["ranking"]["spearman"] == 0.0
    assert len(found["ranking"]["floors"]) == 5
    for row in found["surprise"]["edits"]:
        assert row["auroc"] == pytest.approx(row["floors"]["copy"])
        assert set(row["floors"]) == {"copy", "pixels"}
    for row in found["goals"]["tasks"]:
        assert (row["goals"], row["expert_steps"]) == (2, [10, 10])
        assert set(row["floors"]) == {"random"}
    printed = capsys.readouterr().out
    heads = {line.split()[0] for line in printed.splitlines() if line}
    assert {"rollout", "probe", "ranking", "surprise", "goals"} <= heads


def test_the_same_seed_gives_the_same_numbers_and_another_others(save_checkpoint: Callable) -> None:
    folder = save_checkpoint("latent_vla", **WITH_WORLD_MODEL)

    def ranking(seed: int) -> dict[str, Any]:
        found = diagnose(configure(folder, diagnostics="ranking", seed=seed))["diagnostics"]["ranking"]
        return found["floors"]

    first = ranking(100)
    assert first == ranking(100)
    assert first != ranking(1100)


def test_a_standalone_world_model_has_all_but_the_ranking(save_jepa: Callable, tmp_path: Path) -> None:
    folder = save_jepa()
    held_out = DatasetConfig(root=collect_points(tmp_path / "held_out", seed=1))
    names = ["rollout", "probes", "surprise", "goals"]
    found = diagnose(configure(folder, held_out, diagnostics=",".join(names)))["diagnostics"]
    assert list(found) == names
    with pytest.raises(UserError, match="--diagnostics=ranking: expected a checkpoint that proposes chunks"):
        diagnose(configure(folder, held_out))


def test_what_it_was_trained_on_is_refused_and_what_was_held_out_is_not(points: Path, tmp_path: Path) -> None:
    policy = LatentVLAConfig(device="cpu", **WITH_WORLD_MODEL)
    trained = DatasetConfig(root=points, episodes=[0, 2])
    run = TrainConfig(policy=policy, dataset=trained, output_dir=tmp_path / "run", steps=1, batch_size=4)
    folder = Path(train(run)["checkpoint"])
    with pytest.raises(UserError, match="trained on its episode 0: expected another data set, or"):
        diagnose(configure(folder, DatasetConfig(root=points), diagnostics="rollout"))
    apart = DatasetConfig(root=points, episodes=[1])
    found = diagnose(configure(folder, apart, diagnostics="rollout"))
    assert found["diagnostics"]["rollout"]["episodes"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"diagnostics": "probe"},
            "--diagnostics=probe: expected some of rollout, probes, ranking, surprise, goals",
        ),
        ({"diagnostics": "goals", "planning": "plan=cem"}, "plan: expected one of"),
        ({"diagnostics": "probes,probes"}, "--diagnostics=probes,probes: .* each once"),
        (
            {"diagnostics": "rollout"},
            r"--dataset\.root is missing: .* --diagnostics=probes,ranking,surprise,goals",
        ),
        (
            {"env": PointEnvConfig(cameras="side"), "diagnostics": "probes"},
            r"observation\.images\.corner: the environment has no such feature: .*observation\.images\.side",
        ),
    ],
)
def test_a_mistake_is_one_line(save_checkpoint: Callable, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        diagnose(configure(save_checkpoint("latent_vla", **WITH_WORLD_MODEL), **changes))


def test_latents_that_hold_the_state_are_looked_into_but_not_planned_with(save_checkpoint: Callable) -> None:
    folder = save_checkpoint("latent_vla", proprioceptive_latents=True, **WITH_WORLD_MODEL)
    found = diagnose(configure(folder, diagnostics="probes,surprise"))["diagnostics"]
    assert list(found) == ["probes", "surprise"]
    with pytest.raises(ValueError, match="proprioceptive"):
        diagnose(configure(folder, diagnostics="goals"))


def test_a_data_set_of_other_cameras_is_refused(save_checkpoint: Callable, points: Path) -> None:
    folder = save_checkpoint("latent_vla", **WITH_WORLD_MODEL)
    other = DatasetConfig(root=points, cameras="corner:side")
    with pytest.raises(UserError, match=r"observation\.images\.corner: --dataset\.root=.*points has no such"):
        diagnose(configure(folder, other, diagnostics="rollout"))


def test_a_data_set_of_other_pictures_or_actions_is_refused(points: Path) -> None:
    world = PointWorld()
    cache = FrameCache.open(points)
    check_dataset(world, cache)
    world.action_size = 7
    with pytest.raises(UserError, match=r"world model's action is 7 but 2 in --dataset\.root="):
        check_dataset(world, cache)
    world.cameras = {CAMERA: (3, 64, 48)}
    with pytest.raises(UserError, match="corner is 3x64x48 but 3x32x32 in"):
        check_dataset(world, cache)


@pytest.mark.parametrize(
    ("name", "value"),
    [("probe_episodes", 15), ("edited_episodes", 1), ("states", 1), ("candidates", 2), ("goals", 0)],
)
def test_too_few_to_tell_anything_are_refused(name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"--{name}={value}: expected at least"):
        configure(Path("run"), **{name: value})


def test_the_command_line_looks_into_a_model_where_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    monkeypatch.setattr(cli, "_load", lambda target: lambda config: calls.append((target, config)) or {})
    env = "--env.task=reach"
    assert cli.main(["evaluate", "--policy.path=run", env]) == 0
    assert cli.main(["evaluate", "--model.path=run", "--model.value_weight=1", env, "--states=7"]) == 0
    assert [target.partition(":")[2] for target, _ in calls] == ["evaluate", "diagnose"]
    _, config = calls[1]
    assert (config.model.path, config.states, config.model_overrides) == (
        Path("run"),
        7,
        ["--value_weight=1"],
    )


def test_help_tells_of_the_flags_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["evaluate", "--help"])
    assert "--videos" in capsys.readouterr().out
    cli.main(["evaluate", "--model.path=run", "--help"])
    shown = capsys.readouterr().out
    assert "--candidates" in shown
    assert "--videos" not in shown
    assert "overrides" not in shown.replace("model_overrides", "").split("\n\n")[-2]


METAWORLD = EmbodiedMetaworldEnv(task="push", cameras="corner", width=32, height=32, episode_length=120)


@pytest.mark.slow
@pytest.mark.render
def test_a_model_of_meta_world_goes_through_all_of_it(tmp_path: Path) -> None:
    sets = [tmp_path / "train", tmp_path / "held_out"]
    for seed, root in enumerate(sets):
        collect(CollectConfig(env=METAWORLD, dataset=DatasetConfig(root=root), episodes=3, seed=seed))
    policy = LatentVLAConfig(device="cpu", world_model=True, dim=32, heads=2, depth=1, head_depth=1)
    data = DatasetConfig(root=sets[0])
    run = TrainConfig(policy=policy, dataset=data, output_dir=tmp_path / "run", steps=2, batch_size=4)
    folder = Path(train(run)["checkpoint"])
    held_out = DatasetConfig(root=sets[1])
    found = diagnose(configure(folder, held_out, env=METAWORLD, candidates=8))["diagnostics"]
    assert {row["landmark"] for row in found["probes"]["summary"]} == {"gripper", "object", "goal"}
    gripper = next(row for row in found["probes"]["summary"] if row["landmark"] == "gripper")
    assert gripper["floor"] > 0.3  # even random convolutions tell where the arm is
    assert found["ranking"]["undefined"] == 0
    assert {row["edit"] for row in found["surprise"]["edits"]} == {"displaced", "repainted"}
    assert [row["steps"] for row in found["rollout"]["horizons"]][:2] == [12, 24]
