"""`embodied export`: a checkpoint as ONNX graphs, written only if they decide as the checkpoint does."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from embodied.errors import UserError
from embodied.evaluation.calibration import open_dataset, trained_on
from embodied.evaluation.evaluate import checkpoint_origin
from embodied.export.config import ExportConfig
from embodied.export.graph import DecisionGraph
from embodied.export.parity import Parity, compare, recorded_looks
from embodied.export.tracing import write_graph
from embodied.manifest import whole_folder, write_json, write_manifest
from embodied.serving.checkpoint_runner import CheckpointPolicy
from embodied.serving.export_folder import EXPORT, FORMAT
from embodied.serving.exported_runner import ExportedPolicy
from embodied.serving.specification import Specification, to_plain

MODES = ("reactive", "imagine")
"""What can be exported: `plan` chooses between chunks that the world model scores, too much for one graph."""

TOLERANCE = 1e-4
"""Largest difference of normalised actions that counts as none."""

BYTES = {"offset": 3, "end": 1}
"""How ByT5 spells: the ids 0 to 2 stand for padding, the end and the unknown."""


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the folder and return the result as JSON values.

    `modes`: per mode its `file` and `bytes`, `observations`, `max_abs_error` of normalised actions, and
    `latency_ms` of `exported` and `eager`, p50 and p95 of one decision with all its processors; `tolerance`;
    `threads`; `output_dir`; and what `checkpoint_origin` gives.

    Raises:
        UserError: a checkpoint that cannot be exported, no data set to compare at, or a graph that decides
            otherwise than the checkpoint. Nothing is written then.
    """
    path = config.policy.folder
    origin = checkpoint_origin(path, config.seed)
    overrides = [*config.policy_overrides, "--continuation=inpainting"]  # a graph has no backward pass
    loaded = CheckpointPolicy(path, device="cpu", overrides=overrides)
    modes = _chosen_modes(config.modes, loaded.specification)
    _check_exportable(path, loaded)
    cache = open_dataset(config.dataset or trained_on(path, "with observations to compare at"))
    looks = recorded_looks(cache, loaded.specification, config.observations, config.seed)
    threads = torch.get_num_threads()
    rows: dict[str, dict[str, Any]] = {}
    with whole_folder(config.output_dir) as folder:
        description = _describe(loaded, modes, origin)
        for mode, name in description["graphs"].items():
            print(f"{mode}: tracing, which takes about half a minute", flush=True)
            loaded.policy.config.mode = mode
            graph = DecisionGraph(loaded.policy, loaded.preprocessor, loaded.postprocessor)
            write_graph(graph, list(loaded.specification.cameras), folder / name)
        write_json(folder / EXPORT, description)
        write_manifest(folder)
        exported = ExportedPolicy(folder, threads=threads)
        for mode, name in description["graphs"].items():
            parity = compare(mode, exported, loaded, looks, config.seed)
            rows[mode] = _row(folder / name, parity)
            print(_format_row(mode, rows[mode]), flush=True)
            if not parity.error <= TOLERANCE:  # not a number is none of both
                raise UserError(
                    f"--policy.path={path}: in mode {mode} the graph differs by {parity.error:.2g} in "
                    f"normalised actions: expected at most {TOLERANCE:g}, so nothing was written"
                )
        write_json(folder / EXPORT, description | {"parity": rows})
    return {
        "modes": rows,
        "tolerance": TOLERANCE,
        "threads": threads,
        "output_dir": str(config.output_dir),
        **origin,
    }


def _chosen_modes(names: str | None, specification: Specification) -> tuple[str, ...]:
    able = [mode for mode in MODES if mode in specification.modes]
    chosen = able if names is None else [name.strip() for name in names.split(",") if name.strip()]
    wrong = [name for name in chosen if name not in able]
    if wrong or not chosen:
        raise UserError(f"--modes={names}: expected some of {', '.join(able)}")
    return tuple(dict.fromkeys(chosen))


def _check_exportable(path: Path, loaded: CheckpointPolicy) -> None:
    config = loaded.policy.config
    expected = {"backbone": "scratch", "intervention": "none", "memory": "kept", "use_amp": False}
    for name, value in expected.items():
        if getattr(config, name) != value:
            raise UserError(f"--policy.path={path}: its {name} is {getattr(config, name)}: expected {value}")


def _describe(loaded: CheckpointPolicy, modes: Sequence[str], origin: dict[str, Any]) -> dict[str, Any]:
    """What the runner needs to know beside the graphs, and what an evaluation says of the checkpoint."""
    checkpoint = {name: origin["checkpoint"][name] for name in ("sha256", "training_seed")}
    return {
        "format": FORMAT,
        "specification": to_plain(replace(loaded.specification, modes=tuple(modes), candidates=0)),
        "tokenizer": {**BYTES, "longest": loaded.policy.config.max_instruction_bytes},
        "graphs": {mode: f"{mode}.onnx" for mode in modes},
        "trained": {"checkpoint": checkpoint, "dataset": origin["dataset"]},
    }


def _row(file: Path, parity: Parity) -> dict[str, Any]:
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "observations": parity.looks,
        "max_abs_error": parity.error,
        "latency_ms": {"exported": parity.exported_ms, "eager": parity.checkpoint_ms},
    }


def _format_row(mode: str, row: dict[str, Any]) -> str:
    exported, eager = (row["latency_ms"][side] for side in ("exported", "eager"))
    return (
        f"{mode:9} differs by at most {row['max_abs_error']:.1e} at {row['observations']} observations; "
        f"p50 {exported['p50']:.1f} ms, p95 {exported['p95']:.1f} ms; "
        f"eager {eager['p50']:.1f} ms, {eager['p95']:.1f} ms"
    )
