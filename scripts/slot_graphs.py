"""Writes the ONNX files of ``serving.runtime.slot_graphs``, which serving cannot make: it does not install ``onnx``.

Usage: python scripts/slot_graphs.py [FOLDER]     (default: serving/runtime/graphs)
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnx import TensorProto, helper

FOLDER = Path(__file__).parents[1] / "serving" / "runtime" / "graphs"
_IR_VERSION, _OPSET = 10, 21
_DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
_OPERATORS: dict[str, list[tuple[str, tuple[str, ...], str]]] = {  # by kind: operator, inputs, output
    "fill": [("Expand", ("x", "shape"), "y")],
    "fit": [("Slice", ("x", "starts", "ends"), "cut"), ("Pad", ("cut", "pads"), "y")],
    "keep": [("Gather", ("x", "order"), "y")],
}


def slot_graph(kind: str, dtype: str) -> bytes:
    """Return the graph for tensor 0 of a type."""
    operators = _OPERATORS[kind]
    made = {output for _, _, output in operators}
    integers = [name for _, inputs, _ in operators for name in inputs if name not in {"x", *made}]
    value, element = helper.make_tensor_value_info, _DTYPES[dtype]
    graph = helper.make_graph(
        [
            helper.make_node(kind, [f"{name}_00" for name in inputs], [f"{output}_00"])
            for kind, inputs, output in operators
        ],
        "slots",
        [value("x_00", element, None), *(value(f"{name}_00", TensorProto.INT64, None) for name in integers)],
        [value("y_00", element, None)],
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opsets).SerializeToString()


def main(folder: Path = FOLDER) -> None:
    """Write every kind for every type."""
    folder.mkdir(exist_ok=True)
    for kind in _OPERATORS:
        for dtype in _DTYPES:
            (folder / f"{kind}.{dtype}.onnx").write_bytes(slot_graph(kind, dtype))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
