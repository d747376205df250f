"""What a runner is asked is checked; holding still; sessions of a checkpoint know nothing of each other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.errors import UserError
from embodied.serving.checkpoint_runner import CheckpointRunner
from embodied.serving.runner import NullRunner, Request
from embodied.serving.specification import Signals, Specification
from tests.checkpoints import THINKING, save_checkpoint

SIGNALS = Signals(names=("a", "b"), units=("rad", "rad"), low=(-1.0, -1.0), high=(1.0, 1.0))
SWAPPED = replace(SIGNALS, names=("b", "a"))
SPECIFICATION = Specification(
    robot_type="point",
    cameras={"top": (4, 6, 3)},
    state=SIGNALS,
    action=SWAPPED,
    fps=30.0,
    chunk_size=5,
    n_action_steps=5,
    modes=("reactive",),
    rtc=True,
)
REQUEST = Request(
    session="s",
    images={"top": np.zeros((4, 6, 3), np.uint8)},
    state=np.array([0.25, -0.5], np.float32),
    task="hold",
)


def test_the_null_runner_holds_each_joint_by_its_name() -> None:
    runner = NullRunner(SPECIFICATION)
    runner.open("s", "reactive")
    (decision,) = runner.act([REQUEST])
    assert decision.actions.tolist() == [[-0.5, 0.25]] * 5
    assert decision.actions.dtype == np.float32


def test_an_action_without_a_state_cannot_be_held() -> None:
    with pytest.raises(UserError, match="action c: expected one of the states, a, b, to hold"):
        NullRunner(replace(SPECIFICATION, action=replace(SIGNALS, names=("a", "c"))))


def test_a_closed_session_does_not_act() -> None:
    runner = NullRunner(SPECIFICATION)
    runner.open("s", "reactive")
    runner.close("s")
    with pytest.raises(UserError, match="session s: expected one that is open"):
        runner.act([REQUEST])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": {}}, "camera top is missing"),
        ({"images": {**REQUEST.images, "side": np.zeros((4, 6, 3), np.uint8)}}, "camera side: expected only"),
        ({"images": {"top": np.zeros((6, 4, 3), np.uint8)}}, r"camera top of shape \(6, 4, 3\)"),
        ({"images": {"top": np.zeros((4, 6, 3))}}, "camera top of float64: expected uint8"),
        ({"state": np.zeros(3, np.float32)}, r"state of shape \(3,\): expected \(2,\)"),
        ({"state": np.array([0, np.nan], np.float32)}, "state: expected finite numbers"),
        ({"prefix": np.zeros((6, 2))}, r"prefix of shape \(6, 2\): expected \(1 to 5, 2\)"),
        ({"prefix": np.zeros((0, 2))}, "prefix of shape"),
        ({"prefix": np.full((2, 2), np.inf)}, "prefix: expected finite numbers"),
        ({"prefix": np.zeros((2, 2)), "delay": 3}, "delay 3: expected 0 to 2"),
        ({"delay": 1}, "delay 1: expected 0 to 0"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    runner = NullRunner(SPECIFICATION)
    runner.open("s", "reactive")
    with pytest.raises(UserError, match=message):
        runner.act([replace(REQUEST, **changes)])


def test_a_prefix_needs_a_policy_that_continues_chunks() -> None:
    runner = NullRunner(replace(SPECIFICATION, rtc=False))
    runner.open("s", "reactive")
    with pytest.raises(UserError, match="prefix: expected none"):
        runner.act([replace(REQUEST, prefix=np.zeros((2, 2)))])


# --- a checkpoint ---------------------------------------------------------------------------------

STATEFUL = {"n_obs_steps": 3, "memory_tokens": 2, "memory_window": 4}


@pytest.fixture
def make_runner(tmp_path: Path) -> Callable[..., CheckpointRunner]:
    """Opens sessions `a` and `b` over a checkpoint of a tiny policy."""

    def make(mode: str = "reactive", **overrides: Any) -> CheckpointRunner:
        runner = CheckpointRunner(save_checkpoint(tmp_path / "checkpoint", **overrides), device="cpu")
        runner.open("a", mode)
        runner.open("b", mode)
        return runner

    return make


def look(session: str, seed: int, **changes: Any) -> Request:
    """A random look, the same for the same seed."""
    draw = np.random.default_rng(seed)
    images = {name: draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) for name in ("corner", "gripper")}
    state = draw.normal(size=3).astype(np.float32)
    return Request(session=session, images=images, state=state, task="open the drawer", **changes)


def act(runner: CheckpointRunner, *requests: Request) -> list[np.ndarray]:
    return [decision.actions for decision in runner.act(requests)]


@pytest.mark.parametrize("state", [{}, STATEFUL], ids=["present", "history and memory"])
def test_sessions_batched_together_decide_as_each_would_alone(make_runner: Callable, state: dict) -> None:
    runner = make_runner(**state)
    alone = [act(runner, look("a", seed))[0] for seed in (1, 2, 3)]
    act(runner, look("a", 1, reset=True))
    mixed = [act(runner, look("b", 7), look("a", 2))[1], act(runner, look("b", 8), look("a", 3))[1]]
    np.testing.assert_allclose(mixed, alone[1:], atol=1e-5)


def test_what_a_session_saw_before_counts_until_it_is_reset(make_runner: Callable) -> None:
    runner = make_runner(**STATEFUL, temperature=0.0)
    first, later = act(runner, look("a", 1))[0], act(runner, look("a", 1))[0]
    act(runner, look("a", 2))
    changed = act(runner, look("a", 1))[0]
    anew = act(runner, look("a", 1, reset=True))[0]
    assert np.abs(changed - later).max() > 1e-3
    np.testing.assert_array_equal(first, anew)


def test_a_refused_request_changes_no_session(make_runner: Callable) -> None:
    runner = make_runner(**STATEFUL)
    act(runner, look("a", 1))
    with pytest.raises(UserError, match="state of shape"):
        act(runner, look("a", 5), replace(look("b", 2), state=np.zeros(2, np.float32)))
    second = act(runner, look("a", 2))[0]
    act(runner, look("a", 1, reset=True))
    np.testing.assert_array_equal(act(runner, look("a", 2))[0], second)


def test_sessions_of_different_modes_share_a_micro_batch(make_runner: Callable) -> None:
    runner = make_runner(**THINKING)
    runner.open("i", "imagine")
    runner.open("p", "plan")
    together = act(runner, look("a", 1), look("i", 1), look("p", 1))
    assert np.abs(together[0] - together[1]).max() > 1e-3
    assert together[2].shape == together[0].shape == (12, 3)
    runner.close("i")
    runner.open("i", "imagine")
    np.testing.assert_allclose(act(runner, look("i", 1))[0], together[1], atol=1e-5)


def test_sessions_choose_among_as_many_candidates_as_they_asked_for(make_runner: Callable) -> None:
    runner = make_runner(**THINKING, candidates=4)
    for name, count in (("own", 0), ("few", 4), ("many", 64)):
        runner.open(name, "plan", count)
    own, few, many = act(runner, look("own", 1), look("few", 1), look("many", 1))
    np.testing.assert_allclose(own, few, atol=1e-6)
    assert np.abs(many - few).max() > 1e-3
    runner.open("r", "reactive")
    np.testing.assert_allclose(act(runner, look("r", 1))[0], act(runner, look("a", 1))[0], atol=1e-6)


def test_flags_that_change_what_is_offered_show_in_the_specification(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "checkpoint", **THINKING)
    found = CheckpointRunner(path, device="cpu", overrides=["--n_action_steps=3", "--candidates=5"])
    assert (found.specification.n_action_steps, found.specification.candidates) == (3, 5)


@pytest.mark.parametrize("relative", [False, True])
def test_a_decision_begins_with_the_actions_that_are_committed(make_runner: Callable, relative: bool) -> None:
    runner = make_runner(relative_actions=relative)
    prefix = np.linspace(-1, 1, 15).reshape(5, 3)
    free, (actions,) = act(runner, look("a", 1))[0], act(runner, look("b", 1, prefix=prefix, delay=2))
    np.testing.assert_allclose(actions[:2], prefix[:2], atol=1e-5)
    assert np.abs(actions[2:] - free[2:]).max() > 1e-3


def test_a_mode_that_was_not_trained_is_refused(make_runner: Callable) -> None:
    with pytest.raises(UserError, match="mode imagine: expected one of reactive"):
        make_runner("imagine")
