"""What a late decision costs: success on the SO-101's task under injected delays, by how chunks are merged.

Every arm meets the same scenes in simulated time, through the loop, queue, latency estimate and safety filter
of `embodied run`. Success at a delay is compared with success at none, scene by scene. How rough the seams
are is told by the acceleration of the commands: how much it changes from tick to tick, root mean square over
joints, where a new chunk takes over and elsewhere.

T ticks, A joints.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied.errors import UserError
from embodied.evaluation.comparison import bootstrap
from embodied.evaluation.row_log import RowLog
from embodied.evaluation.statistics import wilson_interval
from embodied.manifest import MANIFEST, file_sha256
from embodied.rendering_backend import use_renderer
from embodied.rollout import hidden_main_module
from embodied.serving.checkpoint_runner import CheckpointPolicy
from embodied.serving.control import Controller, Patience
from embodied.serving.loop import Asking, ControlLoop
from embodied.serving.motor_log import violations
from embodied.serving.profiles import PROFILES
from embodied.serving.queue import MERGES, ActionQueue
from embodied.serving.run_config import RunConfig
from embodied.serving.safety import SafetyFilter
from embodied.serving.self_collision import MujocoCollisions
from embodied.serving.sessions import Decider, SessionRunner
from embodied.serving.virtual import VirtualAsker, VirtualClock, VirtualRobot, offers
from envs.so101 import SO101Env
from policies.latent_vla.action_head import FlowMatchingHead

PROFILE = PROFILES["so101"]
FIRST_SEED = 400_000
SPIKE_SECONDS, SPIKED = 1.0, (2, 6)
"""Of one decision of an episode, which of them by chance: from the third to the sixth."""

CONDITIONS: dict[str, float] = {"0 ms": 0.0, "100 ms": 0.1, "200 ms": 0.2, "300 ms": 0.3, "spike of 1 s": 0.0}
"""Injected delays in seconds, beside the tick that a decision takes at least."""

REFERENCE, SPIKE = "0 ms", "spike of 1 s"
TOLERATED = 0.05
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """merge: of MERGES; continues: whether the policy is told what is left, and how it continues that."""

    merge: str = "rtc"
    sync: bool = False
    continues: str | None = None


ARMS = {
    "rtc": Arm(continues="inpainting"),
    "rtc by guidance": Arm(continues="guidance"),
    "latest": Arm(),
    "ensemble": Arm(merge="ensemble"),
    "sync": Arm(sync=True),
}
"""`latest` is the control: real-time chunking without its continuation."""


def run_episodes(
    path: Path,
    rows: RowLog,
    plan: Mapping[tuple[str, str], int],
    *,
    workers: int,
    max_steps: int,
    temperature: float,
) -> None:
    """Run what `rows` lack of so many episodes per (arm, condition), and append it.

    max_steps: control steps of an episode; temperature: of the policy, above 0 its chunks differ by chance.
    UserError for rows that were made otherwise.
    """
    made = {"max_steps": max_steps, "temperature": temperature}
    origin = {"checkpoint": file_sha256(path / MANIFEST), **made}
    for row in rows.rows:
        for name, value in origin.items():
            if row[name] != value:
                raise UserError(f"{rows.path}: has rows with {name} {row[name]}: expected {value}")
    done = {(row["arm"], row["condition"], row["env_seed"]) for row in rows.rows}
    todo = [
        (arm, condition, FIRST_SEED + index)
        for (arm, condition), count in plan.items()
        for index in range(count)
        if (arm, condition, FIRST_SEED + index) not in done
    ]
    use_renderer()
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(path, max_steps, temperature),
    )
    with hidden_main_module(), pool:
        for number, row in enumerate(pool.map(_in_worker, todo), start=1):
            rows.append({**row, **origin})
            if number % 20 == 0 or number == len(todo):
                print(f"{number} of {len(todo)}: {row['arm']}, {row['condition']}", flush=True)


_stage: "Stage"


def _begin(path: Path, max_steps: int, temperature: float) -> None:
    global _stage
    torch.set_num_threads(1)
    policy = CheckpointPolicy(path, device="cpu", overrides=[f"--temperature={temperature}"])
    head = policy.policy.head
    _stage = Stage(policy, head if isinstance(head, FlowMatchingHead) else None, max_steps=max_steps)


def _in_worker(episode: tuple[str, str, int]) -> Row:
    return _stage.play(*episode)


class Stage:
    """A policy and a scene, in which episodes are played."""

    def __init__(self, policy: Decider, head: FlowMatchingHead | None, *, max_steps: int) -> None:
        """head: of the policy, for arms that continue a chunk in one of two ways."""
        self._policy, self._head = policy, head
        self._specification = policy.specification
        sizes = set(self._specification.cameras.values())
        height, width, _ = next(iter(sizes))
        self._env = SO101Env(
            cameras=tuple(self._specification.cameras),
            width=width,
            height=height,
            max_episode_steps=max_steps,
        )
        self._collisions = MujocoCollisions(PROFILE)
        self._max_steps = max_steps

    def play(self, arm: str, condition: str, seed: int) -> Row:
        """One episode as a row; the same for the same arguments."""
        way, policy = ARMS[arm], self._specification
        if way.continues is not None:
            if self._head is None:
                raise UserError(f"arm {arm}: expected a policy with a flow head, which can continue a chunk")
            self._head.continuation = way.continues
        clock = VirtualClock()
        robot = VirtualRobot(self._env, clock)
        robot.reset(seed)
        loop = ControlLoop(
            robot,
            offers(self._env, policy, float(PROFILE.fps)),
            controller=Controller(ActionQueue(MERGES[way.merge]), Patience.suiting(policy, PROFILE.fps)),
            safety=SafetyFilter(PROFILE, collisions=self._collisions),
            asker=VirtualAsker(
                SessionRunner(self._policy),
                clock,
                mode=policy.modes[0],
                delay=partial(_delay, condition, seed),
                deadline=RunConfig.deadline,
            ),
            asking=Asking(
                task=self._env.task_description, sync=way.sync, continues=way.continues is not None
            ),
            clock=clock,
            sleep=clock.sleep,
        )
        loop.start()
        clock.sleep(1 / PROFILE.fps)
        decisions: list[int] = []
        loop.record = lambda frame: decisions.append(loop.counts.decisions)
        loop.run(2 * self._max_steps / PROFILE.fps, until=lambda: robot.is_over)
        commands = np.array(robot.commands)
        steps = np.diff([robot.begun, *robot.times])
        return {
            "arm": arm,
            "condition": condition,
            "task": self._env.task,
            "env_seed": seed,
            "success": robot.is_success,
            "steps": len(commands),
            "decisions": loop.counts.decisions,
            "holds": sum(event.state.value == "hold" for event in loop.controller.history),
            "flags": loop.counts.flags,
            "violations": violations(PROFILE, robot.start, steps.tolist(), commands),
            **jumps(commands, np.diff(decisions, prepend=0) > 0, 1 / PROFILE.fps),
        }


def _delay(condition: str, seed: int, number: int) -> float:
    spiked = np.random.default_rng(seed).integers(*SPIKED)
    return SPIKE_SECONDS if condition == SPIKE and number == spiked else CONDITIONS[condition]


def jumps(commands: np.ndarray, is_seam: np.ndarray, dt: float) -> dict[str, float | None]:
    """Mean square changes of acceleration from tick to tick, over joints, per tick.

    commands: (T, A); is_seam: (T,) bool, where a new chunk takes over. Returns `seam` and `inside`, in units
    per second squared, squared, None where there is no such tick; the first three ticks count for neither.
    """
    change = (np.diff(commands, n=3, axis=0) / dt**2) ** 2
    later = is_seam[3:]
    groups = {"seam": change[later], "inside": change[~later]}
    return {name: float(part.mean()) if len(part) else None for name, part in groups.items()}


# --- what the rows say ----------------------------------------------------------------------------


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Success and seams per arm and condition, and what each delay costs each arm.

    Returns `cells`, `costs` (per arm and condition: `difference` from no delay over the scenes that both have
    seen, and `low`, its one-sided 95 % bound by bootstrap over scenes), `violations` (how many episodes), and
    `ok`: where real-time chunking was tried late it loses less than TOLERATED, also at that bound, and no
    command of any arm broke a limit.
    """
    cells: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        cells.setdefault((row["arm"], row["condition"]), {})[row["env_seed"]] = row
    costs = [
        {"arm": arm, "condition": condition, **_cost(found, cells[arm, REFERENCE])}
        for (arm, condition), found in cells.items()
        if condition != REFERENCE and (arm, REFERENCE) in cells
    ]
    broken = sum(bool(row["violations"]) for row in rows)
    tried = [cost["low"] > -TOLERATED for cost in costs if cost["arm"] == "rtc"]
    return {
        "ok": bool(tried) and all(tried) and not broken,
        "violations": broken,
        "costs": costs,
        "cells": [_cell(*key, list(found.values())) for key, found in cells.items()],
    }


def _cost(found: Mapping[int, Row], reference: Mapping[int, Row]) -> dict[str, Any]:
    seeds = sorted(found.keys() & reference.keys())
    changes = np.array([[found[seed]["success"] - reference[seed]["success"] for seed in seeds]], np.float64)
    low, _ = bootstrap(changes, [("", seed) for seed in seeds], confidence=0.9)
    return {"difference": float(changes.mean()), "low": low, "episodes": len(seeds)}


def _cell(arm: str, condition: str, rows: Sequence[Row]) -> dict[str, Any]:
    successes = sum(row["success"] for row in rows)
    low, high = wilson_interval(successes, len(rows))
    return {
        "arm": arm,
        "condition": condition,
        "episodes": len(rows),
        "success_rate": successes / len(rows),
        "low": low,
        "high": high,
        "seconds": _mean(row["steps"] / PROFILE.fps for row in rows),
        "holds": _mean(row["holds"] for row in rows),
        **{f"{name}_rms": _rms(row[name] for row in rows) for name in ("seam", "inside")},
    }


def _mean(values: Iterator[float]) -> float:
    return float(np.mean(list(values)))


def _rms(squares: Iterator[float | None]) -> float | None:
    known = [value for value in squares if value is not None]
    return float(np.sqrt(np.mean(known))) if known else None


def print_table(summary: Mapping[str, Any], write: Callable[[str], object] = print) -> None:
    """A line per arm and condition."""
    costs = {(cost["arm"], cost["condition"]): cost for cost in summary["costs"]}
    for cell in summary["cells"]:
        cost = costs.get((cell["arm"], cell["condition"]))
        lost = (
            ""
            if cost is None
            else f"   {100 * cost['difference']:+5.1f} points, at least {100 * cost['low']:+.1f}"
        )
        seams = "".join(f"   {name} {cell[f'{name}_rms'] or 0:5.0f}" for name in ("seam", "inside"))
        rate = f"{cell['episodes']:4}   {100 * cell['success_rate']:5.1f} %   {cell['seconds']:.2f} s"
        holds = f"{cell['holds']:.1f} holds"
        write(f"{cell['arm']:18} {cell['condition']:13} {rate}   {holds}{seams}{lost}")
