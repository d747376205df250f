"""From a policy in memory to a file of ONNX, by way of torch.export: any batch size, any instruction."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import Dim

from embodied.export.graph import DecisionGraph, example, output_names
from embodied.serving.exported_runner import FEWEST_TOKENS, MASK, TOKENS

LARGEST_BATCH = 1024


def write_graph(graph: DecisionGraph, cameras: Sequence[str], path: Path) -> None:
    """Write how a policy decides in its present mode; cameras: their names without LeRobot's prefix.

    Raises:
        RuntimeError: the policy does something that ONNX cannot express.
    """
    policy = graph.policy
    # Two of each: sizes of one would be taken for constants.
    inputs = example(policy, cameras, batch=2, length=FEWEST_TOKENS + 1)
    rows = Dim("requests", max=LARGEST_BATCH)
    spelled = {0: rows, 1: Dim("bytes", min=FEWEST_TOKENS, max=policy.config.max_instruction_bytes)}
    shapes = {name: spelled if name in (TOKENS, MASK) else {0: rows} for name in inputs}
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(graph.eval(), (inputs,), dynamic_shapes=(shapes,), strict=False)
            torch.onnx.export(
                program,
                (),
                path,
                input_names=list(inputs),
                output_names=output_names(inputs),
                external_data=False,
                verbose=False,
            )
    finally:
        policy.reset()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks on its own ways.

    It writes a diary as well, wherever one listens to its log; that takes longer than the export.
    """
    diary = logging.getLogger("torch.__trace")
    listeners = list(diary.handlers)
    diary.handlers.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diary.handlers.extend(listeners)
