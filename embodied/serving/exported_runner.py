"""An exported policy behind `PolicyRunner`: ONNX runtime and numpy, no torch, lerobot or transformers.

The folder that `embodied export` writes holds a graph per mode, which does everything but spell instructions:
`export.json` says how, beside what the policy asks for and gives.

B requests, L instruction tokens, H chunk steps, A action size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from embodied.errors import UserError
from embodied.serving.export_folder import read_description
from embodied.serving.runner import Request
from embodied.serving.sessions import Outcome, SessionRunner, stack_prefixes
from embodied.serving.specification import Specification, from_plain

IMAGE, STATE, TOKENS, MASK, NOISE = "image.", "state", "tokens", "mask", "noise"
PREFIX, WEIGHTS, FIRST, PAST = "prefix", "weights", "is_first", "past."
ACTIONS, NORMALIZED, LEFT = "actions", "normalized", "left."
"""Names of the graph's inputs and outputs."""

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
FEWEST_TOKENS = 2

Past = dict[str, np.ndarray]
"""By name, (1, ...) each; empty for a policy that remembers nothing."""


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """Instructions as UTF-8 bytes plus `offset`, ended by the id `end`; at most `longest` ids."""

    offset: int
    end: int
    longest: int

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (B, L) int64, padded with 0, and the mask (B, L) of real ones; UserError if one is too long."""
        rows = [[byte + self.offset for byte in text.encode()] + [self.end] for text in texts]
        length = max(FEWEST_TOKENS, *map(len, rows))
        if length > self.longest:
            raise UserError(f"instruction of {length} bytes: expected at most {self.longest}")
        tokens = np.zeros((len(rows), length), np.int64)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return tokens, np.arange(length) < np.array([[len(ids)] for ids in rows])


class ExportedPolicy:
    """An exported folder: implements `Decider`."""

    specification: Specification

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        """threads: of the processor per decision, all if 0. UserError for a folder that cannot be used."""
        description = read_description(path)
        self.specification = from_plain(description["specification"])
        self._tokenizer = ByteTokenizer(**description["tokenizer"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._graphs = {
            mode: onnxruntime.InferenceSession(
                path / description["graphs"][mode], options, providers=["CPUExecutionProvider"]
            )
            for mode in self.specification.modes
        }

    def noise_shape(self, mode: str, candidates: int = 0) -> tuple[int, ...]:
        """(H, A)."""
        return self.specification.chunk_size, len(self.specification.action.names)

    def decide(
        self, mode: str, requests: Sequence[Request], noise: np.ndarray, past: Sequence[Past | None]
    ) -> Outcome:
        """Run the graph of a mode."""
        graph = self._graphs[mode]
        tokens, mask = self._tokenizer.encode([request.task for request in requests])
        states = np.stack([request.state for request in requests]).astype(np.float32)
        prefixes, weights = stack_prefixes(requests, self.specification)
        given = {STATE: states, TOKENS: tokens, MASK: mask, NOISE: noise, PREFIX: prefixes, WEIGHTS: weights}
        for camera in self.specification.cameras:
            given[IMAGE + camera] = np.stack([request.images[camera] for request in requests])
        wanted: dict[str, Any] = {item.name: item for item in graph.get_inputs()}
        given[FIRST] = np.array([one is None for one in past])
        given |= _joined_past(wanted, past)
        names = [item.name for item in graph.get_outputs()]
        outputs = graph.run(names, {name: given[name] for name in wanted})
        found: dict[str, Any] = dict(zip(names, outputs, strict=True))
        left = {PAST + name.removeprefix(LEFT): found[name] for name in names if name.startswith(LEFT)}
        return Outcome(
            actions=found[ACTIONS],
            normalized=found[NORMALIZED],
            past=[{name: value[[row]] for name, value in left.items()} for row in range(len(requests))],
        )


class ExportedRunner(SessionRunner):
    """Sessions over an exported policy."""

    def __init__(self, path: Path, *, threads: int = 0, seed: int = 0) -> None:
        """Arguments as for `ExportedPolicy`; seed: of the noise."""
        super().__init__(ExportedPolicy(path, threads=threads), seed=seed)


def _joined_past(wanted: Mapping[str, Any], past: Sequence[Past | None]) -> Past:
    """What the episodes left behind, in rows; zeros, which the graph does not read, where one begins."""
    joined = {}
    for name, item in wanted.items():
        if name.startswith(PAST):
            nothing = np.zeros((1, *item.shape[1:]), TYPES[item.type])
            joined[name] = np.concatenate([nothing if one is None else one[name] for one in past])
    return joined
