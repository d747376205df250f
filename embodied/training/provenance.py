"""Where a checkpoint comes from and what it expects: `provenance.json` and `specification.json`."""

import importlib.metadata
import os
import platform
import shlex
import sys
from typing import Any

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

from embodied.provenance import cpu_model, git_commit, utc_date

PACKAGES = (
    "lerobot_policy_embodied",
    "lerobot",
    "torch",
    "numpy",
    "accelerate",
    "transformers",
    "timm",
    "safetensors",
    "metaworld",
    "mujoco",
)


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """Cores, threads in use, processor, accelerators and operating system."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu": cpu_model(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": platform.platform(),
    }


def provenance(*, dataset: dict[str, Any], seed: int) -> dict[str, Any]:
    """Data set (with its fingerprint), date, command line, commit, versions, seed and machine."""
    return {
        "dataset": dataset,
        "date": utc_date(),
        "command": shlex.join(sys.argv),
        "commit": git_commit(),
        "versions": installed_versions(),
        "seed": seed,
        "machine": machine(),
    }


def _described(key: str, feature: PolicyFeature, metadata: LeRobotDatasetMetadata) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": feature.type.value, "shape": list(feature.shape)}
    if feature.type is FeatureType.VISUAL:
        return {**described, "layout": "channels, height, width", "min": 0.0, "max": 1.0}
    statistics = (metadata.stats or {}).get(key, {})
    described["names"] = metadata.features[key].get("names")
    return described | {bound: statistics[bound].tolist() for bound in ("min", "max") if bound in statistics}


def specification(
    inputs: dict[str, PolicyFeature], outputs: dict[str, PolicyFeature], metadata: LeRobotDatasetMetadata
) -> dict[str, Any]:
    """Robot; names, shapes and ranges (over the data set) of observation and action; Hz; instructions."""
    tasks = [] if metadata.tasks is None else [str(task) for task in metadata.tasks.index]
    return {
        "robot_type": metadata.robot_type,
        "rate_hz": metadata.fps,
        "observation": {key: _described(key, feature, metadata) for key, feature in inputs.items()},
        "action": {key: _described(key, feature, metadata) for key, feature in outputs.items()},
        "instructions": tasks,
    }
