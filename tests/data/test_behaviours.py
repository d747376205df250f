"""Behaviours act as they are called, and every episode draws its own seeds."""

from contextlib import closing
from functools import partial
from types import SimpleNamespace
from typing import cast

import gymnasium as gym
import numpy as np
import pytest

from embodied.data.behaviours import (
    BEHAVIOURS,
    LONGEST_FIRST_PUSH_SECONDS,
    TARGET_NOISE,
    EpisodeJob,
    Noise,
    Recorder,
)
from envs.simulated import Expert, SimulatedEnv
from envs.so101 import SO101Env
from envs.so101_expert import make_expert


class Pusher:
    """An expert that always pushes along x."""

    def act(self, state: np.ndarray) -> np.ndarray:
        return np.array([1.0, 0.0, 0.0, 0.0], np.float32)


def robot(**changes: object) -> SimulatedEnv:
    """As far as noise looks at it: a hand that moves at 80 Hz and a gripper."""
    settings: dict = {
        "action_space": gym.spaces.Box(-1, 1, (4,), np.float32),
        "fps": 80,
        "gripper_actions": (3,),
        "actions_are_targets": False,
    }
    return cast(SimulatedEnv, SimpleNamespace(**(settings | changes)))


TABLE = robot(
    action_space=gym.spaces.Box(np.float32([0, -2]), np.float32([512, 2])),
    fps=10,
    gripper_actions=(),
    actions_are_targets=True,
)
"""A robot whose actions are positions on a table and an angle."""


def acts(behaviour: str, noise: float = 0.0, count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Executed and recorded actions (count, 4)."""
    draws, expert = Noise(np.random.default_rng(0), noise, robot()), cast(Expert, Pusher())
    pairs = [BEHAVIOURS[behaviour](expert, np.zeros(39), draws) for _ in range(count)]
    executed, recorded = (np.stack(actions) for actions in zip(*pairs, strict=True))
    return executed, recorded


def actions(behaviour: str, noise: float = 0.0) -> np.ndarray:
    """Actions of a behaviour that records what it executes."""
    executed, recorded = acts(behaviour, noise)
    assert (executed == recorded).all()
    return executed


def make_job(**changes: object) -> EpisodeJob:
    settings: dict = {"task": "reach", "behaviour": "expert", "index": 0, "seed": 0, "noise": 0.0}
    return EpisodeJob(**(settings | {"wanted": "success"} | changes))


def test_the_expert_acts_cleanly() -> None:
    assert (actions("expert", noise=0.5) == [1, 0, 0, 0]).all()


def test_noise_has_the_wanted_deviation_and_stays_in_range() -> None:
    drawn = actions("noisy", noise=0.1)
    assert drawn[:, 1:].std() == pytest.approx(0.1, rel=0.05)
    assert drawn.max() <= 1
    assert drawn.dtype == np.float32


def test_pushes_last_for_a_while_spare_the_gripper_and_are_not_on_record() -> None:
    executed, recorded = acts("disturbed", noise=0.5)
    assert (recorded == [1, 0, 0, 0]).all()
    assert (executed[:, 3] == 0).all()
    pushed = executed[:, 1] != 0
    starts = np.flatnonzero(np.diff(pushed.astype(int)) == 1) + 1
    assert len(starts) > 20
    for start in starts[:-1]:
        assert (executed[start : start + 8, 1] == executed[start, 1]).all()
    assert 0.1 < pushed.mean() < 0.3


def test_a_first_push_goes_one_way_for_a_random_while() -> None:
    pushes = [Noise(np.random.default_rng(seed), 0.5, robot(fps=80)).first_push() for seed in range(50)]
    assert {len(push) for push in pushes} <= set(range(round(80 * LONGEST_FIRST_PUSH_SECONDS) + 1))
    assert len({len(push) for push in pushes}) > 10
    for push in pushes:
        assert (push == push[:1]).all()
        assert (push[:, 3] == 0).all()
    assert np.std([push[0, 0] for push in pushes if len(push)]) == pytest.approx(0.5, rel=0.3)


def test_random_actions_fill_the_range_evenly() -> None:
    drawn = actions("random")
    assert np.abs(drawn).max() <= 1
    assert drawn.mean(axis=0) == pytest.approx(np.zeros(4), abs=0.05)
    assert drawn.std() == pytest.approx(1 / np.sqrt(3), rel=0.03)


def test_who_wanders_pursues_the_task_for_a_while_at_a_time_and_mostly_does_not() -> None:
    shares = []
    for seed in range(40):
        noise = Noise(np.random.default_rng(seed), 0.0, robot(), wanders=True)
        pursuit = np.array([2.0, 2.0, 2.0, 2.0])  # outside the range of whims
        drawn = np.stack([noise.wander(pursuit) for _ in range(2000)])
        pursues = drawn[:, 0] == 2
        shares.append(pursues.mean())
        changes = np.flatnonzero(np.abs(np.diff(drawn, axis=0)).sum(axis=1)) + 1
        assert np.diff(changes).min() >= round(0.1 * 80)
    assert np.mean(shares) == pytest.approx(0.25, abs=0.06)
    assert max(shares) < 0.6


@pytest.mark.parametrize(
    ("wanted", "kept"), [("success", [True]), ("failure", [False]), ("any", [False, True])]
)
def test_a_job_accepts_what_it_wants(wanted: str, kept: list[bool]) -> None:
    assert [outcome for outcome in (False, True) if make_job(wanted=wanted).accepts(outcome)] == kept


def test_noise_of_targets_is_a_share_of_their_range() -> None:
    draws = Noise(np.random.default_rng(0), 0.5, TABLE)
    drawn = np.stack([draws.white() for _ in range(4000)])
    assert drawn.std(axis=0) == pytest.approx(0.5 * TARGET_NOISE * np.array([256, 2]), rel=0.05)
    assert draws.clip(np.array([-3.0, 5.0])).tolist() == [0, 2]


def test_pushes_last_a_tenth_of_a_second_at_any_rate() -> None:
    rates = {fps: Noise(np.random.default_rng(0), 0.5, robot(fps=fps)).push_steps for fps in (10, 50, 80)}
    assert rates == {10: 1, 50: 5, 80: 8}


def test_grippers_are_left_alone_wherever_they_are() -> None:
    draws = Noise(np.random.default_rng(0), 0.5, robot(gripper_actions=(0, 2)))
    pushes = np.stack([draws.push() for _ in range(200)])
    assert (pushes[:, [0, 2]] == 0).all()
    assert np.abs(pushes[:, [1, 3]]).max(axis=0).min() > 0


def test_random_targets_are_kept_for_half_a_second() -> None:
    draws = Noise(np.random.default_rng(0), 0.0, TABLE)
    drawn = np.stack([draws.uniform() for _ in range(1000)]).reshape(200, 5, 2)
    assert (drawn == drawn[:, :1]).all()
    assert len(np.unique(drawn[:, 0, 0])) == 200
    assert drawn[..., 0].mean() == pytest.approx(256, rel=0.1)


def test_every_episode_and_attempt_has_a_seed_of_its_own() -> None:
    jobs = [
        make_job(task=task, behaviour=behaviour, index=index, seed=seed)
        for task in ("reach", "push")
        for behaviour in BEHAVIOURS
        for index in range(20)
        for seed in (0, 1)
    ]
    seeds = [job.draw(attempt)[0] for job in jobs for attempt in range(5)]
    assert len(set(seeds)) == len(seeds)


def test_environment_seeds_keep_away_from_those_people_evaluate_on() -> None:
    seeds = [make_job(index=index).draw(0)[0] for index in range(1000)]
    assert min(seeds) >= 2**31
    assert max(seeds) < 2**32


def test_the_same_job_draws_the_same() -> None:
    (seed, rng), (again, rng_again) = make_job().draw(3), make_job().draw(3)
    assert seed == again
    assert rng.normal() == rng_again.normal()


def test_a_first_push_that_ends_the_episode_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that this job draws brings the gripper to a wrong cube before the first frame."""
    drawn, draw = [], Noise.first_push
    monkeypatch.setattr(Noise, "first_push", lambda noise: drawn.append(draw(noise)) or drawn[-1])
    task = "perception-2"
    make_env = partial(SO101Env, task, terminate_on_success=False)
    with closing(Recorder({task: make_env}, {task: partial(make_expert, task)})) as recorder:
        job = make_job(task=task, behaviour="disturbed", index=77, noise=2.0)
        assert recorder.record(job).is_success
    assert len(drawn) == 2
