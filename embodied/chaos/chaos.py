"""`embodied chaos`: episode after episode, each with a fault in its middle, judged from what was logged."""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embodied.chaos.checks import Row
from embodied.chaos.config import ChaosConfig
from embodied.chaos.faults import FAULTS, chosen_faults
from embodied.chaos.stage import Stage, null_policy, robot_flags
from embodied.chaos.summary import RESULT_FILE, ROWS_FILE, summarise, table
from embodied.chaos.trial import BARS, draw_moment, try_fault
from embodied.errors import UserError
from embodied.evaluation.row_log import RowLog
from embodied.manifest import read_json, write_json
from embodied.provenance import run_origin
from embodied.robots.devices.configs import SimRobotConfig
from embodied.serving.inference import Target
from embodied.serving.profiles import find_profile
from embodied.serving.runners import find_target

SETTINGS_FILE = "chaos_settings.json"
EVIDENCE = "evidence"
LONGEST_EPISODE = 900.0
"""Seconds; an episode is ended when its fault is over."""

FREE_TO_CHANGE = ("faults", "repetitions", "output_dir", "json")
"""Settings that a run which goes on may change."""

Trial = tuple[str, int]
"""A fault's name and the number of the repetition."""


def chaos(config: ChaosConfig) -> dict[str, Any]:
    """Try every fault as often as is asked for, from where an interrupted run was, and judge.

    Returns `ok`, `faults` (see `summarise`), `bars`, `repetitions`, `robot`, `policy` and `load`, the highest
    load of the machine at any repetition. In output_dir lie a row per repetition, the same result and, for a
    repetition that broke a bar, its logs.
    """
    log = RowLog(config.output_dir / ROWS_FILE)
    _keep_settings(config)
    plan = [(name, number) for name in chosen_faults(config.faults) for number in range(config.repetitions)]
    done = {_trial(row) for row in log.rows}
    missing = [trial for trial in plan if trial not in done]
    if missing:
        with tqdm(total=len(plan), initial=len(plan) - len(missing), desc="chaos", unit="episode") as bar:
            for row in _rows(config, missing):
                log.append(row)
                bar.update()
                for problem in row["problems"]:
                    tqdm.write(f"{row['fault']} {row['repetition']}: {problem}")
    rows = [row for row in log.rows if _trial(row) in set(plan)]
    summary = {name: {"what": FAULTS[name].what, **one} for name, one in summarise(rows).items()}
    result = {
        "ok": not any(row["problems"] for row in rows),
        "faults": summary,
        "bars": BARS,
        "repetitions": config.repetitions,
        "robot": config.robot.type,
        "policy": None if config.null else str(config.policy.path),
        "load": max(row["load"] for row in rows),
    }
    origin = run_origin(["embodied", *sys.argv[1:]], seeds=[config.seed])
    write_json(config.output_dir / RESULT_FILE, {**origin, **result})
    print(format_chaos(result))
    return result


def format_chaos(result: Mapping[str, Any]) -> str:
    """The summary as a table, and the verdict."""
    lines = table(result["faults"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    printed = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    for name, one in result["faults"].items():
        printed += [f"{name} {problem}" for problem in one["problems"]]
    verdict = "every bar holds" if result["ok"] else "BROKEN"
    return "\n".join([*printed, f"{verdict} (highest load of the machine {result['load']:.1f})"])


def _trial(row: Row) -> Trial:
    return row["fault"], row["repetition"]


def _rows(config: ChaosConfig, trials: Iterable[Trial]) -> Iterable[Row]:
    """A row per trial; whatever they started is ended when they are over."""
    assert isinstance(config.robot, SimRobotConfig)
    profile = find_profile(config.robot.type)
    target = _target(config)
    with tempfile.TemporaryDirectory(prefix="embodied-chaos-") as text:
        folder = Path(text)
        with closing(Stage(config.robot, target, folder)) as stage:
            for name, number in trials:
                settings = _run_settings(config, stage, number)
                moment = draw_moment(config.seed, name, number)
                place = folder / f"{name}-{number}"
                row, logs = try_fault(stage, name, moment, settings, profile, place)
                if row["problems"]:
                    _keep_evidence(config.output_dir / EVIDENCE / place.name, logs)
                yield {"repetition": number, **row, "load": os.getloadavg()[0]}


def _target(config: ChaosConfig) -> Target:
    """How to make the policy that is served."""
    if config.policy.path is None:
        return null_policy(config.robot)
    return find_target(
        config.policy.path, null=False, device=config.device, overrides=config.policy_overrides
    )


def _run_settings(config: ChaosConfig, stage: Stage, number: int) -> dict[str, Any]:
    """Flags of `embodied run`, nested."""
    same = ("mode", "chunking", "overdue", "stale", "deadline")
    return {
        "robot": robot_flags(stage.robot),
        "task": stage.instruction if config.task is None else config.task,
        "seconds": LONGEST_EPISODE,
        "seed": config.seed + number,
        **{name: getattr(config, name) for name in same if getattr(config, name) is not None},
    }


def _keep_settings(config: ChaosConfig) -> None:
    """Note what the rows are made with. UserError if there are rows that were made otherwise."""
    path = config.output_dir / SETTINGS_FILE
    settings = {f.name: str(getattr(config, f.name)) for f in dataclasses.fields(config) if f.name != "robot"}
    settings |= {f"robot.{name}": str(value) for name, value in robot_flags(config.robot).items()}
    settings = {name: value for name, value in settings.items() if name not in FREE_TO_CHANGE}
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    begun = read_json(path)
    for name in begun.keys() | settings.keys():
        if settings.get(name) != begun.get(name):
            raise UserError(
                f"--output_dir={config.output_dir}: was begun with --{name}={begun.get(name)}: "
                f"expected that, not {settings.get(name)}, or another folder"
            )


def _keep_evidence(folder: Path, logs: Mapping[str, Sequence[Row]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in logs.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
