"""Is an ability necessary for a task? The scripted expert with and without the information in question.

Perfect control remains; what is missing is what the task is about: the instruction, the order, the mass, the
camera's place, the cue. Beside it two floors: random targets and an arm that stays. Nothing is rendered.
"""

import multiprocessing
from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from embodied.data.behaviours import Noise
from embodied.evaluation.statistics import wilson_interval
from embodied.rendering_backend import use_renderer

use_renderer()

from envs.so101 import ARM, SO101Env  # noqa: E402  (MuJoCo binds its OpenGL backend on import)
from envs.so101_arm import joint_numbers  # noqa: E402
from envs.so101_expert import make_expert  # noqa: E402

Act = Callable[[np.ndarray], np.ndarray]


def _expert(env: SO101Env, seed: int, is_blind: bool) -> Act:
    return make_expert(env.task, is_blind=is_blind).act


def _random(env: SO101Env, seed: int) -> Act:
    noise = Noise(np.random.default_rng([seed, 1]), 1.0, env)
    return lambda state: noise.uniform().astype(np.float32)


def _stay(env: SO101Env, seed: int) -> Act:
    start = joint_numbers(env.privileged_state()[ARM]).astype(np.float32)
    return lambda state: start


ARMS: dict[str, Callable[[SO101Env, int], Act]] = {
    "expert": lambda env, seed: _expert(env, seed, False),
    "blind": lambda env, seed: _expert(env, seed, True),
    "random": _random,
    "no-op": _stay,
}
"""Who acts, for an environment whose episode has begun and its seed."""

COLUMNS = ("task", *(cell for arm in ARMS for cell in (arm, "95 % interval")))


def outcomes(job: tuple[str, str, Sequence[int]]) -> str:
    """Run an arm on a task once per seed: (task, arm, seeds). Returns a digit per episode, 1: success."""
    task, arm, seeds = job
    env, digits = SO101Env(task), ""
    for seed in seeds:
        info, is_over = env.restart(seed=seed), False
        act = ARMS[arm](env, seed)
        while not is_over:
            _, terminated, truncated, info = env.advance(act(env.privileged_state()))
            is_over = terminated or truncated
        digits += str(int(info["is_success"]))
    return digits


def necessity(tasks: Sequence[str], seeds: Sequence[int]) -> dict:
    """Run all arms on all tasks. Returns `columns` and `rows` of a table, `episodes` per cell, `outcomes`."""
    jobs = [(task, arm, seeds) for task in tasks for arm in ARMS]
    with multiprocessing.get_context("spawn").Pool() as pool:
        digits = list(tqdm(pool.imap(outcomes, jobs), total=len(jobs), unit="cell"))
    found = {job[:2]: text for job, text in zip(jobs, digits, strict=True)}
    rows = [[task, *(cell for arm in ARMS for cell in _cells(found[task, arm]))] for task in tasks]
    named = {f"{task} {arm}": text for (task, arm), text in found.items()}
    return {"columns": list(COLUMNS), "rows": rows, "episodes": len(seeds), "outcomes": named}


def _cells(digits: str) -> tuple[str, str]:
    low, high = wilson_interval(digits.count("1"), len(digits))
    return f"{digits.count('1') / len(digits):.0%}".replace(
        "%", " %"
    ), f"{100 * low:.0f} to {100 * high:.0f} %"
