import numpy as np
import pytest

from embodied.evaluation.necessity import outcomes
from envs.skills import HOLD
from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tabletop import HOME
from envs.tasks.modeling import (
    BLOWS,
    BRAKING,
    GOAL,
    HELD_OUT,
    PADS,
    PUSHED,
    SHOWN_SPEED,
    SHOWS,
    SLOWING,
    START,
    TOLERANCE,
)

LEVELS = (1, 2, 3)
ASIDE = np.array((-45.0, *HOME[1:]), np.float32)
"""A pose of the arm that is out of the way."""
EPISODES = 30


def shown(env: SO101Env, seed: int) -> None:
    """Begin an episode and wait until the cart has shown how it glides."""
    env.restart(seed=seed)
    while env._goal.numbers[SHOWS]:
        env.advance(ASIDE)


@pytest.mark.parametrize("level", LEVELS)
def test_the_pad_tells_the_friction(level: int) -> None:
    """It lies where a body of that friction comes to rest: speed squared over twice the braking."""
    for split, ranges in (("", BRAKING), ("-held-out", HELD_OUT)):
        env = SO101Env(f"modeling-{level}{split}")
        for seed in range(8):
            shown(env, seed)
            braking = env._goal.numbers[SLOWING]
            assert any(low <= braking <= high for low, high in ranges)
            glide = START - env._running().position("trace")[1]
            assert glide == pytest.approx(SHOWN_SPEED**2 / (2 * braking), rel=0.1)


def test_the_words_tell_how_hard_and_more_friction_asks_for_more() -> None:
    """From the moment at which the glide has been shown; the mark of level 1 is always as far."""
    env, expert, said = SO101Env("modeling-1"), make_expert("modeling-1"), []
    for seed in range(12):
        env.restart(seed=seed)
        assert expert.stage(env.privileged_state()) == "watch the cart"
        shown(env, seed)
        words = expert.stage(env.privileged_state())
        assert words.removeprefix("press ") in PADS
        said.append((env._goal.numbers[SLOWING], PADS.index(words.removeprefix("press "))))
    pads = [pad for _, pad in sorted(said)]
    assert pads == sorted(pads)
    assert len(set(pads)) > 4


def press(env: SO101Env, place: np.ndarray, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the gripper be at a place for some steps."""
    monkeypatch.setattr(env._running(), "pinch", lambda: place)
    for _ in range(steps):
        env.advance(ASIDE)
    monkeypatch.undo()


@pytest.mark.parametrize("pad", [0, len(PADS) - 1])
def test_a_pad_that_is_held_gives_its_blow_once(pad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    env = SO101Env("modeling-1")
    shown(env, 0)
    world = env._running()
    press(env, world.position(PADS[pad]), HOLD - 1, monkeypatch)
    assert not env._goal.numbers[PUSHED]
    env.advance(ASIDE)
    press(env, world.position(PADS[pad]), HOLD, monkeypatch)
    assert env._goal.numbers[PUSHED]
    while not env._is_over:
        press(env, world.position(PADS[4]), 1, monkeypatch)
    glide = START - world.position("cart")[1]
    assert glide == pytest.approx(BLOWS[pad] / env._goal.numbers[SLOWING], rel=0.1)


def test_who_touches_two_pads_in_turn_has_pressed_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SO101Env("modeling-1")
    shown(env, 0)
    for _ in range(HOLD):
        for pad in PADS[:2]:
            press(env, env._running().position(pad), HOLD - 1, monkeypatch)
    assert not env._goal.numbers[PUSHED]


def test_on_level_3_the_friction_changes_in_mid_episode() -> None:
    env = SO101Env("modeling-3")
    env.restart(seed=0)
    first = env._goal.numbers[SLOWING]
    shown(env, 0)
    assert abs(env._goal.numbers[SLOWING] - first) > 0.01


@pytest.mark.parametrize(("off", "is_success"), [(0.0, True), (1.5 * TOLERANCE, False)])
def test_the_cart_has_to_come_to_rest_at_the_mark(off: float, is_success: bool) -> None:
    env = SO101Env("modeling-1")
    shown(env, 0)
    world, numbers = env._running(), env._goal.numbers
    numbers[PUSHED] = 1.0
    world.data.joint("cart").qpos[0] = numbers[GOAL] + off
    _, terminated, _, info = env.advance(ASIDE)
    assert (terminated, info["is_success"]) == (True, is_success)


@pytest.mark.parametrize("split", ["", "-held-out"])
@pytest.mark.parametrize("level", LEVELS)
def test_only_who_knows_the_friction_succeeds(level: int, split: str) -> None:
    task = f"modeling-{level}{split}"
    assert outcomes((task, "expert", range(EPISODES))).count("1") >= EPISODES - 3
    assert outcomes((task, "blind", range(EPISODES))).count("1") <= EPISODES * 0.55


@pytest.mark.render
def test_pad_and_mark_are_in_the_picture() -> None:
    env = SO101Env("modeling-1", cameras=("front",))
    shown(env, 0)
    red, green, blue = np.moveaxis(env.observe()["pixels"]["front"].astype(int), -1, 0)
    assert np.count_nonzero((red > 90) & (green < 60) & (blue < 60)) >= 4
    assert np.count_nonzero((blue > 90) & (red < 60)) >= 20
    env.close()
