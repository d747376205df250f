"""Planning to a goal picture: the world model searched for actions that lead to what the expert has reached.

From one reset, the expert shows its last picture; from the same reset a planner (`latent_mpc`) is to get
there, in at most twice the expert's steps. Success is the environment's. Floor: random actions.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from embodied.evaluation.diagnostics.scenes import Act, Stage, counted
from embodied.evaluation.statistics import percentiles_ms, wilson_interval
from embodied.rollout import Agent

PATIENCE = 2
"""Times the expert's steps that a planner may take."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One goal: the steps of the expert, and whether planner and random actions got there as well."""

    task: str
    expert_steps: int
    planner: bool
    random: bool


def reach_goals(agent: Agent, stages: Iterable[Stage], *, goals: int, seed: int) -> dict[str, Any]:
    """Plan to `goals` pictures per task; returns what `tally` does, and `decision_ms`."""
    attempts: list[Attempt] = []
    excluded = {}
    seconds: list[float] = []
    for stage in stages:
        tried = [
            _attempt(agent, stage, seed + index, seconds) for index in counted(goals, f"goals {stage.task}")
        ]
        attempts += [attempt for attempt in tried if attempt is not None]
        excluded[stage.task] = tried.count(None)
    return {**tally(attempts, excluded), "decision_ms": percentiles_ms(seconds)}


def tally(attempts: Sequence[Attempt], excluded: dict[str, int]) -> dict[str, Any]:
    """Success per task with Wilson's interval (95 %), beside that of random actions; rates are over goals.

    excluded: per task, goals that an expert did not reach, or that the start already was.
    """
    rows = []
    for task, left_out in excluded.items():
        own = [attempt for attempt in attempts if attempt.task == task]
        successes = sum(attempt.planner for attempt in own)
        low, high = wilson_interval(successes, len(own)) if own else (None, None)
        rows.append(
            {
                "task": task,
                "goals": len(own),
                "excluded": left_out,
                "successes": successes,
                "success_rate": successes / len(own) if own else None,
                "low": low,
                "high": high,
                "floors": {"random": sum(one.random for one in own) / len(own) if own else None},
                "expert_steps": [attempt.expert_steps for attempt in own],
            }
        )
    return {"tasks": rows}


def _attempt(agent: Agent, stage: Stage, seed: int, seconds: list[float]) -> Attempt | None:
    """One goal; None if the expert fails, or has nothing left to do at the start."""
    act = stage.begin(seed, "expert")
    steps = _until_success(stage, act, stage.length)
    if steps is None or steps == 1:
        return None
    goal = {"goal": stage.env.observe()["pixels"]}
    limit = min(PATIENCE * steps, stage.length)
    planned = _until_success(stage, _timed(stage.begin_agent(agent, seed, goal), agent, seconds), limit)
    blind = _until_success(stage, stage.begin(seed, "random"), limit)
    return Attempt(task=stage.task, expert_steps=steps, planner=planned is not None, random=blind is not None)


def _until_success(stage: Stage, act: Act, limit: int) -> int | None:
    """The steps it takes to solve the task; None if that does not happen within the limit."""
    for step in range(limit):
        _, terminated, truncated, info = stage.env.advance(act(step))
        if info["is_success"]:
            return step + 1
        if terminated or truncated:
            return None
    return None


def _timed(act: Act, agent: Agent, seconds: list[float]) -> Act:
    """The same, noting how long each decision takes, the look included."""

    def timed(step: int) -> Any:
        started = time.perf_counter()
        action = act(step)
        if step % agent.chunk_steps == 0:
            seconds.append(time.perf_counter() - started)
        return action

    return timed
