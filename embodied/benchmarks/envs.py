"""How fast environments give image observations: ours against LeRobot's own Meta-World environment.

Both are driven alternately in one process, on the task push, with the same actions. One observation is one
control step with one picture taken after it; LeRobot's environment renders 480 x 480 pixels and has no other
size.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
from lerobot.envs.configs import MetaworldEnv as PeerConfig
from lerobot.envs.metaworld import MetaworldEnv as PeerEnv
from tqdm import trange

from embodied.config import BenchConfig
from envs.metaworld import LONGEST_EPISODE, MetaworldEnv

TASK = "push"
WARM_UP_STEPS = 3
UNIT = "image observations per second (one control step, one picture)"


def bench_envs(config: BenchConfig) -> dict[str, Any]:
    """Time `config.repeats` pairs of `config.steps` steps and print the medians.

    Returns `ours`, `peer` (medians), `ratio` (median of the pairs' ratios), `unit`, `pairs` (every
    measurement), `ours_with_two_cameras` (observations of two pictures each) and the picture sizes.
    """
    pairs = []
    for _ in trange(config.repeats, desc="bench envs", unit="pair"):
        pair = {
            "ours": observation_rate(partial(_ours, config.image_size, ("corner",)), config.steps),
            "peer": observation_rate(_peer, config.steps),
            "ours_with_two_cameras": observation_rate(
                partial(_ours, config.image_size, ("corner", "gripper")), config.steps
            ),
        }
        pairs.append(pair | {"ratio": pair["ours"] / pair["peer"]})
    medians = {key: median(pair[key] for pair in pairs) for key in pairs[0]}
    print(f"ours {medians['ours']:.0f}, LeRobot's {medians['peer']:.1f} {UNIT}: {medians['ratio']:.1f} times")
    print(f"ours with two cameras: {medians['ours_with_two_cameras']:.0f} observations per second")
    return medians | {
        "benchmark": "envs",
        "unit": UNIT,
        "task": TASK,
        "steps": config.steps,
        "ours_picture": [config.image_size, config.image_size],
        "peer_picture": [480, 480],
        "pairs": pairs,
    }


def _ours(size: int, cameras: tuple[str, ...]) -> gym.Env:
    return MetaworldEnv(TASK, cameras=cameras, width=size, height=size, max_episode_steps=LONGEST_EPISODE)


def _peer() -> gym.Env:
    task = f"{TASK}-v3"
    return PeerEnv(task=task, **PeerConfig(task=task).gym_kwargs)


def observation_rate(make_env: Callable[[], gym.Env], steps: int) -> float:
    """Return the observations per second of a new environment; its start and warm-up are not counted.

    Raises:
        RuntimeError: it returns blank pictures.
    """
    env = make_env()
    observation, _ = env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (WARM_UP_STEPS + steps, 4)).astype(np.float32)
    start = 0.0
    for index, action in enumerate(actions):
        if index == WARM_UP_STEPS:
            start = time.perf_counter()
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    seconds = time.perf_counter() - start
    env.close()
    pictures = observation["pixels"]
    for picture in pictures.values() if isinstance(pictures, dict) else [pictures]:
        if picture.min() == picture.max():
            raise RuntimeError(f"{type(env).__name__} returned a blank picture: its speed means nothing")
    return steps / seconds
