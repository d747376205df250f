"""Impossible edits: one thing changes, a restored snapshot undoes it."""

from collections.abc import Callable

import numpy as np
import pytest

from envs.aloha import AlohaEnv
from envs.metaworld import MetaworldEnv
from envs.pusht import DISPLACEMENT, PushTEnv
from envs.simulated import SimulatedEnv
from envs.so101 import SO101Env

MAKERS: dict[str, tuple[Callable[[], SimulatedEnv], str]] = {
    "push": (lambda: MetaworldEnv("push"), "object"),
    "drawer-open": (lambda: MetaworldEnv("drawer-open"), "object"),
    "coffee-pull": (lambda: MetaworldEnv("coffee-pull"), "object"),
    "insertion": (lambda: AlohaEnv("insertion", cameras=("front",)), "peg"),
    "push-t": (PushTEnv, "block"),
    "reach-cube": (lambda: SO101Env(cameras=("front",)), "cube"),
}
FARTHEST = {"drawer-open": 0.16, "push-t": DISPLACEMENT}
every_env = pytest.mark.parametrize("name", MAKERS)


def edited(name: str, edit: str) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Landmarks and pictures before an edit, after it, and after it is undone."""
    env = MAKERS[name][0]()
    env.reset(seed=1)
    snapshot = env.snapshot()
    landmarks, pictures = [env.landmarks()], [env.observe()["pixels"]]
    getattr(env, edit)(np.random.default_rng(0))
    landmarks, pictures = [*landmarks, env.landmarks()], [*pictures, env.observe()["pixels"]]
    env.restore(snapshot)
    landmarks, pictures = [*landmarks, env.landmarks()], [*pictures, env.observe()["pixels"]]
    env.close()
    return landmarks, pictures


@pytest.mark.render
@every_env
def test_a_displaced_object_is_elsewhere_and_nothing_else_is(name: str) -> None:
    landmarks, pictures = edited(name, "displace_object")
    before, after, undone = landmarks
    moved = {key: np.linalg.norm(after[key][:2] - before[key][:2]) for key in before}
    displaced = MAKERS[name][1]
    assert moved.pop(displaced) >= FARTHEST.get(name, 0.12) - 1e-3
    assert max(moved.values()) < 1e-9
    for key, place in before.items():
        np.testing.assert_array_equal(undone[key], place)
    camera = next(iter(pictures[0]))
    assert (pictures[0][camera] != pictures[1][camera]).any(axis=-1).sum() > 10
    np.testing.assert_array_equal(pictures[2][camera], pictures[0][camera])


@pytest.mark.render
@every_env
def test_a_repainted_object_looks_different_where_it_is(name: str) -> None:
    landmarks, pictures = edited(name, "repaint_object")
    for key, place in landmarks[0].items():
        np.testing.assert_array_equal(landmarks[1][key], place)
    camera = next(iter(pictures[0]))
    changed = (pictures[0][camera] != pictures[1][camera]).any(axis=-1).mean()
    assert 0.0005 < changed < 0.2
    np.testing.assert_array_equal(pictures[2][camera], pictures[0][camera])


def test_pusht_refuses_a_snapshot_that_it_could_not_restore() -> None:
    env = PushTEnv()
    env.restart(seed=0)
    env.repaint_object(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="after an edit"):
        env.snapshot()
    env.restart()
    env.snapshot()


def test_landmarks_tell_of_a_second_object_only_where_there_is_one() -> None:
    def names(task: str) -> list[str]:
        env = MetaworldEnv(task)
        env.restart(seed=0)
        return sorted(env.landmarks())

    assert names("push") == ["goal", "gripper", "object"]
    assert names("hammer") == ["goal", "gripper", "object", "other_object"]
