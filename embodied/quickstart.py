"""`embodied quickstart`: three tasks, one small policy that is told in words which of them to do.

Collect demonstrations, train, evaluate, report. Every stage leaves a JSON file in the output folder, which
tells a second run what is done; collection that was interrupted goes on from its last episode, training from
its last checkpoint.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from embodied.config import (
    CheckpointConfig,
    CollectConfig,
    DatasetConfig,
    EvaluateConfig,
    OptimizerConfig,
    QuickstartConfig,
    ReportConfig,
    TrainConfig,
)
from embodied.data.collect import complete_collection
from embodied.errors import UserError
from embodied.evaluation.evaluate import evaluate
from embodied.evaluation.summary import format_table
from embodied.lerobot_plugin import EmbodiedMetaworldEnv
from embodied.reporting.report import report
from embodied.training.loop import train
from embodied.training.run import SETTINGS
from envs.metaworld_tasks import INSTRUCTIONS
from policies.latent_vla import LatentVLAConfig

Result = dict[str, Any]

TASKS = ("reach", "drawer-open", "button-press-topdown")
EVALUATION_SEED = 100_000
FILMED_EPISODES = 3


def environment() -> EmbodiedMetaworldEnv:
    """The three tasks, seen from two corners and from the gripper."""
    return EmbodiedMetaworldEnv(task=",".join(TASKS), cameras="corner,side,gripper", width=96, height=96)


def collect_config(config: QuickstartConfig) -> CollectConfig:
    """Demonstrations of the scripted experts, half of them pushed about."""
    return CollectConfig(
        env=environment(),
        dataset=DatasetConfig(root=config.output_dir / "demonstrations"),
        episodes=config.episodes - config.episodes // 2,
        disturbed_episodes=config.episodes // 2,
        noise=0.8,
        seed=config.seed,
    )


def train_config(config: QuickstartConfig) -> TrainConfig:
    """One policy of about 4M parameters for all tasks, which weigh the same; a fixed number of steps."""
    output_dir = config.output_dir / "training"
    return TrainConfig(
        policy=LatentVLAConfig(preset="tiny", device="cuda" if torch.cuda.is_available() else "cpu"),
        dataset=DatasetConfig(
            root=config.output_dir / "demonstrations",
            task_weights={INSTRUCTIONS[task]: 1.0 for task in TASKS},
        ),
        output_dir=output_dir,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=min(200, config.steps), ema_decay=0.999),
        steps=config.steps,
        batch_size=64,
        save_freq=1000,
        keep_last=2,
        seed=config.seed,
        resume=(output_dir / SETTINGS).is_file(),
    )


def evaluate_config(config: QuickstartConfig) -> EvaluateConfig:
    """Episodes on seeds that no demonstration had; the same ones for every training seed."""
    return EvaluateConfig(
        policy=CheckpointConfig(path=config.output_dir / "training"),
        env=environment(),
        episodes=config.eval_episodes // len(TASKS),
        seed=EVALUATION_SEED,
        videos=FILMED_EPISODES,
        output_dir=config.output_dir / "evaluation",
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def quickstart(config: QuickstartConfig) -> Result:
    """Run the stages that are not done yet, then show the success rates and where everything is.

    Returns the evaluation's result, with those of the other stages under `collect` and `train`.

    Raises:
        UserError: the output folder holds a run with other settings.
    """
    if config.eval_episodes < len(TASKS):
        raise UserError(
            f"--eval_episodes={config.eval_episodes}: expected at least {len(TASKS)}, one per task"
        )
    folder = config.output_dir
    collecting, training, evaluating = collect_config(config), train_config(config), evaluate_config(config)
    _claim(folder, config)
    collected = _stage(folder, 1, "collect", lambda: complete_collection(collecting))
    trained = _stage(folder, 2, "train", lambda: train(training))
    was_evaluated = (folder / "evaluate.json").is_file()
    evaluated = _stage(folder, 3, "evaluate", lambda: evaluate(evaluating))
    if was_evaluated:
        print(format_table(evaluated, evaluated["floors"]))
    filmstrip = join_strips(folder / "evaluation" / "videos", folder / "filmstrip.png")
    print(f"\ndemonstrations  {folder / 'demonstrations'}")
    print(f"checkpoint      {trained['checkpoint']}")
    print(f"films           {folder / 'evaluation' / 'videos'}")
    print(f"filmstrip       {filmstrip}")
    report(ReportConfig(run=folder))
    return {**evaluated, "collect": collected, "train": trained}


def _claim(folder: Path, config: QuickstartConfig) -> None:
    """Note in `folder` which run it belongs to; refuse it if that is another."""
    settings = {
        key: value for key, value in dataclasses.asdict(config).items() if key not in ("json", "output_dir")
    }
    note = folder / "quickstart.json"
    if note.is_file():
        for key, value in json.loads(note.read_text()).items():
            if settings.get(key) != value:
                raise UserError(
                    f"--{key}={settings.get(key)}: expected {value}, with which the run in {folder} began, "
                    "or another --output_dir"
                )
    folder.mkdir(parents=True, exist_ok=True)
    _write(note, settings)


def _stage(folder: Path, number: int, name: str, run: Callable[[], Result]) -> Result:
    """The stage's result: read if it is there, else made and written."""
    path = folder / f"{name}.json"
    if path.is_file():
        print(f"[{number}/3] {name}: done before, see {path}")
        return json.loads(path.read_text())
    print(f"[{number}/3] {name}")
    _write(path, run())
    return json.loads(path.read_text())


def _write(path: Path, value: Result) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(path)


def join_strips(folder: Path, path: Path) -> Path:
    """One picture of one filmstrip per task, a successful one where there is any."""
    strips = []
    for task in TASKS:
        found = sorted(
            folder.glob(f"{task}_*.png"), key=lambda strip: ("success" not in strip.name, strip.name)
        )
        strips += [Image.open(found[0])] if found else []
    height = sum(strip.height for strip in strips)
    joined = Image.new("RGB", (max(strip.width for strip in strips), height), "white")
    top = 0
    for strip in strips:
        joined.paste(strip, (0, top))
        top += strip.height
    joined.save(path)
    return path
