"""What this machine offers for collecting, training and evaluating, and what to do about each problem."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embodied.config import DoctorConfig
from embodied.errors import UserError
from embodied.rendering_backend import choose_renderer

PYTHON_VERSIONS = ((3, 12), (3, 13))
LEROBOT_VERSION = "0.6.1"
DISTRIBUTION = "lerobot_policy_embodied"
SET_UP = "run `bash scripts/setup.sh`"
NEEDED_GB = 4.0
COMFORTABLE_GB = 10.0
FRAMES_TO_TIME = 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report: what was found, what is wrong with it, how to fix it, whether it blocks."""

    topic: str
    found: str
    problem: str | None = None
    fix: str | None = None
    blocking: bool = False


def doctor(config: DoctorConfig) -> dict[str, Any]:
    """Look at the machine and print what was found.

    Returns `ok` (nothing blocks) and `findings`, a list of Finding as dicts.
    """
    findings = []
    for check in CHECKS:
        finding = check()
        print(f"{finding.topic:<10} {finding.found}")
        findings.append(finding)
    for finding in findings:
        if finding.problem:
            word = "problem" if finding.blocking else "advice"
            print(f"{word:<10} {finding.problem}: {finding.fix}")
    return {
        "ok": not any(finding.blocking for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def check_python() -> Finding:
    """The interpreter's version."""
    found = platform.python_version()
    if sys.version_info[:2] in PYTHON_VERSIONS:
        return Finding(topic="Python", found=found)
    return Finding(
        topic="Python", found=found, problem="expected Python 3.12 or 3.13", fix=SET_UP, blocking=True
    )


def check_torch() -> Finding:
    """PyTorch and the number of threads it computes with."""
    import torch

    return Finding(topic="torch", found=f"{torch.__version__}, {torch.get_num_threads()} threads")


def check_device() -> Finding:
    """What training would run on, and whether it computes in bf16 itself."""
    import torch

    from embodied.training.precision import bf16_unit

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name = f"cuda: {torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    else:
        name = f"cpu: {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    unit = bf16_unit()
    return Finding(topic="device", found=f"{name}, {f'bf16 by {unit}' if unit else 'float32 only'}")


def check_renderer() -> Finding:
    """The way MuJoCo draws, and how many frames of a Meta-World scene it draws in a second."""
    topic = "renderer"
    try:
        drawing = choose_renderer()
    except UserError as error:
        problem, _, fix = str(error).partition("; ")
        return Finding(topic=topic, found="none", problem=problem, fix=fix, blocking=True)
    os.environ.update(drawing.backend.variables)
    rate = metaworld_frames_per_second(FRAMES_TO_TIME)
    found = f"{drawing.backend.name} ({drawing.gl_renderer}), {rate:.0f} frames/s of Meta-World at 96 px"
    return Finding(topic=topic, found=found)


def metaworld_frames_per_second(frames: int) -> float:
    """Frames of 96 x 96 pixels that one process draws in a second."""
    from envs.metaworld import MetaworldEnv

    env = MetaworldEnv("reach", cameras=("corner",))
    env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(frames):
        env.observe()
    seconds = time.perf_counter() - start
    env.close()
    return frames / seconds


def check_lerobot() -> Finding:
    """LeRobot's version, and whether its own discovery finds our policy and environment."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.envs.configs import EnvConfig
    from lerobot.utils.import_utils import register_third_party_plugins

    version = importlib.metadata.version("lerobot")
    register_third_party_plugins()
    names = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    known = {*PreTrainedConfig.get_known_choices(), *EnvConfig.get_known_choices()}
    missing = [name for name in ("latent_vla", "embodied_metaworld") if name not in known]
    if missing or DISTRIBUTION not in names:
        problem = f"LeRobot does not find {', '.join(missing) or DISTRIBUTION}"
        return Finding(topic="LeRobot", found=version, problem=problem, fix=SET_UP, blocking=True)
    found = f"{version}, finds latent_vla and embodied_metaworld"
    if version != LEROBOT_VERSION:
        problem = f"expected LeRobot {LEROBOT_VERSION}, the version this was tested with"
        return Finding(topic="LeRobot", found=found, problem=problem, fix=SET_UP)
    return Finding(topic="LeRobot", found=found)


def check_disk() -> Finding:
    """Free space in the current folder."""
    return judge_disk(shutil.disk_usage(Path.cwd()).free / 1e9)


def judge_disk(free_gb: float) -> Finding:
    """What `free_gb` (10^9 bytes) is enough for."""
    found = f"{free_gb:.1f} GB free here"
    if free_gb >= COMFORTABLE_GB:
        return Finding(topic="disk", found=found)
    return Finding(
        topic="disk",
        found=found,
        problem=f"the quickstart takes {NEEDED_GB:.0f} GB, ten tasks with their cache {COMFORTABLE_GB:.0f}",
        fix="free some space, or give --dataset.root and --output_dir on another disk",
        blocking=free_gb < NEEDED_GB,
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_torch,
    check_device,
    check_renderer,
    check_lerobot,
    check_disk,
)
