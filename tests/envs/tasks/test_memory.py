from itertools import groupby

import numpy as np
import pytest

from embodied.evaluation.necessity import outcomes
from envs.skills import HOLD, above
from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tasks.memory import (
    CUE,
    CUE_STEPS,
    CUPS,
    DELAY,
    DOWN,
    GO_STEP,
    IS_GO,
    LONG_DELAY,
    PLACES,
    PRESSED,
    PRESSES,
    STAYS_DOWN,
    WAITING,
)

LEVELS = (1, 2, 3)
EPISODES = 30


def test_delays_held_out_are_longer_than_all_to_learn_from() -> None:
    for level in LEVELS:
        delays = {}
        for split in ("", "-held-out"):
            env = SO101Env(f"memory-{level}{split}")
            found = []
            for seed in range(40):
                env.restart(seed=seed)
                numbers = env._goal.numbers
                shown = 18 * (numbers[CUE] + 1) if level == 3 else CUE_STEPS
                found.append(numbers[GO_STEP] - shown)
            delays[split] = found
        assert DELAY[0] <= min(delays[""]) <= max(delays[""]) <= DELAY[1]
        assert LONG_DELAY[0] <= min(delays["-held-out"])


@pytest.mark.parametrize("level", LEVELS)
def test_the_cue_has_nothing_to_do_with_what_is_in_sight_later(level: int) -> None:
    env, places, cues = SO101Env(f"memory-{level}"), [], []
    for seed in range(300):
        env.restart(seed=seed)
        places.append(env._goal.numbers[PLACES:])
        cues.append(env._goal.numbers[CUE])
    assert np.bincount(np.array(cues, int)).min() > 70
    together = np.corrcoef(np.column_stack([cues, places]), rowvar=False)[0, 1:]
    assert np.abs(together).max() < 0.2


@pytest.mark.parametrize("level", LEVELS)
def test_the_arm_waits_in_the_same_place_whatever_the_cue(level: int) -> None:
    env, expert = SO101Env(f"memory-{level}-held-out"), make_expert(f"memory-{level}-held-out")
    for seed in range(6):
        env.restart(seed=seed)
        expert.reset()
        while not env._goal.numbers[IS_GO]:
            waiting = env.landmarks()["gripper"]
            env.advance(expert.act(env.privileged_state()))
        np.testing.assert_allclose(waiting, WAITING, atol=0.012)


def test_a_cup_that_is_touched_before_the_signal_ends_the_episode() -> None:
    env = SO101Env("memory-2")
    env.restart(seed=0)
    world, cup = env._running(), CUPS[int(env._goal.numbers[CUE])]
    world.place(cup, world.pinch())
    _, terminated, _, info = env.advance(world.numbers())
    assert (terminated, info["is_success"]) == (True, False)


def test_a_cup_is_called_by_where_it_stands() -> None:
    """Cups are alike, and the arm, which looks along x, has y on its left."""
    env, expert = SO101Env("memory-2"), make_expert("memory-2")
    for seed in range(6):
        env.restart(seed=seed)
        places = env.landmarks()
        assert places["right cup"][1] < places["middle cup"][1] < places["left cup"][1]
        env._goal.numbers[IS_GO] = 1.0
        cup = CUPS[int(env._goal.numbers[CUE])]
        assert expert.stage(env.privileged_state()) == f"touch the {cup}"
        env._goal.numbers[IS_GO] = 0.0
        assert expert.stage(env.privileged_state()) == f"wait to touch the {cup}"


def test_who_looks_once_a_chunk_sees_every_press() -> None:
    """The button is down, and up between two presses, for longer than the 12 steps of a chunk."""
    env, expert = SO101Env("memory-3"), make_expert("memory-3")
    seed = next(seed for seed in range(30) if env.restart(seed=seed) and env._goal.numbers[CUE] == 2)
    env.restart(seed=seed)
    expert.reset()
    is_down, is_over = [], False
    while not is_over:
        _, terminated, truncated, _ = env.advance(expert.act(env.privileged_state()))
        is_down.append(bool(env._goal.numbers[DOWN]))
        is_over = terminated or truncated
    lengths = [len(list(steps)) for _, steps in groupby(is_down)]
    assert len(lengths) == 7
    assert min(lengths) > 12


def test_the_words_count_the_presses_down() -> None:
    """Whoever is to say them has to know the cue, and what has been pressed since."""
    env, expert = SO101Env("memory-3"), make_expert("memory-3")
    seed = next(seed for seed in range(30) if env.restart(seed=seed) and env._goal.numbers[CUE] == 1)
    env.restart(seed=seed)
    expert.reset()
    said, is_over = [""], False
    while not is_over:
        words = expert.stage(env.privileged_state())
        said += [words] * (words != said[-1])
        _, terminated, truncated, _ = env.advance(expert.act(env.privileged_state()))
        is_over = terminated or truncated
    assert said[1:] == [
        "watch the lamp, 1 so far",
        "watch the lamp, 2 so far",
        "press the yellow button, 2 to go",
        "let the button go, 1 to go",
        "press the yellow button, 1 to go",
        "let the button go, 0 to go",
        "touch the black button",
    ]


def test_pressing_is_counted_once_per_press_and_one_too_many_fails() -> None:
    env = SO101Env("memory-3")
    env.restart(seed=0)
    world, numbers = env._running(), env._goal.numbers
    hold = world.numbers()
    while not numbers[IS_GO]:
        env.advance(hold)
    terminated, presses = False, []
    for _ in range(int(numbers[CUE]) + 2):
        here = world.pinch()
        for place, steps in (
            (here, HOLD - 1),
            (above(here, 0.2), 1),
            (here, HOLD),
            (above(here, 0.2), STAYS_DOWN),
        ):
            before = numbers[PRESSES]
            for _ in range(steps):
                world.place("button", place)
                if not terminated:
                    terminated = env.advance(hold)[1]
                color = world.model.geom_rgba[world.model.body("button").geomadr[0], :3]
                assert np.allclose(color, PRESSED) == bool(numbers[DOWN])
            assert numbers[PRESSES] - before == (steps == HOLD)
        presses.append(numbers[PRESSES])
    assert presses == list(range(1, int(numbers[CUE]) + 3))
    assert terminated


@pytest.mark.parametrize("split", ["", "-held-out"])
@pytest.mark.parametrize("level", LEVELS)
def test_only_who_has_seen_the_cue_succeeds(level: int, split: str) -> None:
    task = f"memory-{level}{split}"
    assert outcomes((task, "expert", range(EPISODES))).count("1") >= EPISODES - 2
    assert outcomes((task, "blind", range(EPISODES))).count("1") <= EPISODES // 2


@pytest.mark.render
def test_the_lamp_shows_its_color_then_none() -> None:
    env = SO101Env("memory-1", cameras=("front",))
    colors = set()
    for seed in range(8):
        pictures = [env.reset(seed=seed)[0]["pixels"]["front"].astype(int)]
        hold = env._running().numbers()
        while env._steps < CUE_STEPS:
            env.advance(hold)
        pictures.append(env.observe()["pixels"]["front"].astype(int))
        changed = np.abs(pictures[0] - pictures[1]).sum(-1) > 120
        assert 10 < changed.sum() < 120
        shown = pictures[0][changed].mean(0).argmax()
        assert shown == int(env._goal.numbers[CUE])  # red, green, blue
        colors.add(int(shown))
    assert colors == {0, 1, 2}
    env.close()
