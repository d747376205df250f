"""An exported policy that is no network: its one graph holds the joints where they are, plus the noise."""

from pathlib import Path

from onnx import TensorProto, helper, save

from embodied.manifest import write_json, write_manifest
from embodied.serving.export_folder import EXPORT, FORMAT
from embodied.serving.specification import Specification, to_plain


def save_export(folder: Path, specification: Specification) -> Path:
    """Write what `embodied export` would, for a policy of this specification, a graph for each mode."""
    folder.mkdir()
    chunk = ["requests", specification.chunk_size, len(specification.action.names)]
    inputs = [
        helper.make_tensor_value_info(
            "state", TensorProto.FLOAT, ["requests", len(specification.state.names)]
        ),
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, chunk),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, chunk) for name in ("actions", "normalized")
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["state", "axis"], ["now"]),
        helper.make_node("Mul", ["noise", "share"], ["tremor"]),
        helper.make_node("Add", ["now", "tremor"], ["actions"]),
        helper.make_node("Identity", ["tremor"], ["normalized"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("share", TensorProto.FLOAT, [], [1e-3]),
    ]
    graph = helper.make_graph(nodes, "hold", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for mode in specification.modes:
        save(model, folder / f"{mode}.onnx")
    description = {
        "format": FORMAT,
        "specification": to_plain(specification),
        "tokenizer": {"offset": 3, "end": 1, "longest": 256},
        "graphs": {mode: f"{mode}.onnx" for mode in specification.modes},
        "trained": {"checkpoint": {"sha256": specification.checkpoint, "training_seed": 0}, "dataset": {}},
    }
    write_json(folder / EXPORT, description)
    write_manifest(folder)
    return folder
