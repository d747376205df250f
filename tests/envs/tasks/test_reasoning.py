import numpy as np
import pytest

from embodied.evaluation.necessity import outcomes
from envs.skills import above
from envs.so101 import SO101Env
from envs.so101_expert import make_expert
from envs.tasks.reasoning import ANSWER, CUBES, FIRST, HUES, RELATIONS, WHERE
from envs.things import COLORS

LEVELS = (1, 2, 3)
EPISODES = 30


def instructions(task: str, count: int = 250) -> set[str]:
    env, found = SO101Env(task), set()
    for seed in range(count):
        env.restart(seed=seed)
        found.add(env.task_description)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_splits_share_every_word_and_no_sentence(level: int) -> None:
    known, held_out = (instructions(f"reasoning-{level}{split}") for split in ("", "-held-out"))
    assert not known & held_out
    words = [{word.strip(",:") for text in texts for word in text.split()} for texts in (known, held_out)]
    assert words[1] <= words[0]
    assert set(HUES) <= words[0]


def thoughts(task: str, count: int = 250) -> dict[str, list[str]]:
    """By instruction, the thoughts of the expert's first sub-goal."""
    env, expert, found = SO101Env(task), make_expert(task), {}
    for seed in range(count):
        env.restart(seed=seed)
        found[env.task_description] = expert.stage(env.privileged_state()).split("; ")
    return found


@pytest.mark.parametrize("level", [1, 2])
def test_what_is_held_out_can_be_thought_in_known_thoughts(level: int) -> None:
    known, held_out = (thoughts(f"reasoning-{level}{split}") for split in ("", "-held-out"))
    told = {thought for chain in known.values() for thought in chain}
    assert {thought for chain in held_out.values() for thought in chain} <= told
    assert max(map(len, known.values())) == 2


def test_a_thought_names_what_has_to_be_seen_first() -> None:
    for text, chain in (thoughts("reasoning-1") | thoughts("reasoning-2")).items():
        named = [word for word in text.replace(",", "").split() if word in HUES]
        if " next " in text or " pin " in text:
            assert chain[0] == f"find the {named[0]} cube"
        elif " two " in text:
            counted = named[1]
            assert chain[0] in (f"there is one {counted} cube", f"there are two {counted} cubes")
        else:
            assert len(chain) == 1


def test_the_relation_is_the_robots_own() -> None:
    env = SO101Env("reasoning-1")
    for seed in range(60):
        env.restart(seed=seed)
        world, text = env._running(), env.task_description
        relation = next(relation for relation in RELATIONS if relation in text)
        pin = world.names[2 + int(env._goal.numbers[ANSWER])]
        way = world.position(pin)[:2] - world.position("this cube")[:2]
        np.testing.assert_allclose(way, RELATIONS[relation], atol=1e-9)
    assert RELATIONS["left of"][1] > 0
    assert RELATIONS["behind"][0] > 0


def meant_by(words: list[str], hues: list[str], from_right: list[str]) -> str:
    """The color that a sentence leaves, read word by word. from_right: the cubes' colors in their order."""
    named = [word for word in words if word in HUES]
    if "if" in words:
        then, counted, otherwise = named
        return then if hues.count(counted) == 2 else otherwise
    if "unless" in words:
        otherwise, counted, then = named
        return then if hues.count(counted) == 2 else otherwise
    if "next" in words:
        return from_right[from_right.index(named[0]) + (1 if "left" in words else -1)]
    return next(hue for hue in hues if hue not in named)


@pytest.mark.parametrize("task", ["reasoning-2", "reasoning-2-held-out", "reasoning-3"])
def test_what_is_meant_is_all_that_the_words_leave(task: str) -> None:
    env = SO101Env(task)
    for seed in range(90):
        env.restart(seed=seed)
        world, text = env._running(), env.task_description
        words = text.replace(",", "").split("plate", 1)[-1].split()
        colors = [world.model.geom_rgba[world.model.body(name).geomadr[0], :3] for name in CUBES]
        hues = [next(hue for hue in HUES if np.allclose(COLORS[hue], color)) for color in colors]
        order = np.argsort([world.position(name)[1] for name in CUBES])
        hue = meant_by(words, hues, [hues[cube] for cube in order])
        assert hues.count(hue) == 1
        assert hues.index(hue) == env._goal.numbers[ANSWER], text
        assert HUES[int(env._goal.numbers[FIRST])] == hue


@pytest.mark.parametrize("level", LEVELS)
def test_who_is_meant_is_spread_over_all_candidates(level: int) -> None:
    env, answers = SO101Env(f"reasoning-{level}"), []
    for seed in range(200):
        env.restart(seed=seed)
        answers.append((env._goal.numbers[ANSWER], env._running().position(env._running().names[0])[1] > 0))
    counts = {answer: answers.count(answer) for answer in set(answers)}
    assert max(counts.values()) < 0.5 * len(answers)


def test_a_wrong_thing_that_is_moved_ends_the_episode() -> None:
    env = SO101Env("reasoning-3")
    env.restart(seed=1)
    world = env._running()
    wrong = next(name for i, name in enumerate(world.names[:4]) if i != env._goal.numbers[ANSWER])
    world.place(wrong, (0.34, 0.1, 0.0125))
    _, terminated, _, info = env.advance(world.numbers())
    assert (terminated, info["is_success"]) == (True, False)


@pytest.mark.parametrize(("plate", "is_success"), [("this plate", True), ("other plate", False)])
def test_the_plate_decides_once_the_thing_is_let_go(plate: str, is_success: bool) -> None:
    env = SO101Env("reasoning-3")
    env.restart(seed=1)
    world = env._running()
    assert env._goal.numbers[WHERE] == 0
    world.place(world.names[int(env._goal.numbers[ANSWER])], above(world.position(plate), 0.0135))
    _, terminated, _, info = env.advance(world.numbers())
    assert (terminated, info["is_success"]) == (True, is_success)


@pytest.mark.parametrize("split", ["", "-held-out"])
@pytest.mark.parametrize("level", LEVELS)
def test_only_who_hears_the_instruction_succeeds(level: int, split: str) -> None:
    task = f"reasoning-{level}{split}"
    assert outcomes((task, "expert", range(EPISODES))).count("1") >= EPISODES - 3
    assert outcomes((task, "blind", range(EPISODES))).count("1") <= EPISODES // 2


@pytest.mark.render
def test_the_named_color_is_in_the_picture() -> None:
    env = SO101Env("reasoning-2", cameras=("top",))
    pixels = env.reset(seed=0)[0]["pixels"]["top"].astype(int)
    colorful = np.ptp(pixels, axis=-1) > 60
    assert 80 < colorful.sum() < 3000
    env.close()
