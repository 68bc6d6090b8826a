"""The graphs that serving ships for memory and state on a device."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from scripts.slot_graphs import FOLDER, main
from serving.errors import StartupError
from serving.runtime.slot_graphs import Kind, slot_graph


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    main(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in FOLDER.iterdir()}


@pytest.mark.parametrize("kind", ["fill", "fit", "keep"])
def test_a_graph_of_many_tensors_is_valid(kind: Kind) -> None:
    dtypes = ("float32", "float16") * 50
    graph = onnx.load_from_string(slot_graph(kind, dtypes)).graph
    for number, dtype in enumerate(dtypes):
        element = getattr(onnx.TensorProto, {"float32": "FLOAT", "float16": "FLOAT16"}[dtype])
        (x,) = [value for value in graph.input if value.name == f"x_{number:02}"]
        assert x.type.tensor_type.elem_type == graph.output[number].type.tensor_type.elem_type == element
        assert graph.output[number].name == f"y_{number:02}"
    names = [value.name for value in (*graph.input, *graph.output)]
    assert len(set(names)) == len(names)
    assert {name for node in graph.node for name in node.input} <= {*names, *(o for n in graph.node for o in n.output)}


@pytest.mark.parametrize("dtypes", [("int64",), ("float32",) * 101])
def test_what_a_device_cannot_hold_is_refused(dtypes: tuple[str, ...]) -> None:
    with pytest.raises(StartupError, match="a GPU takes up to 100 of float32 or float16: use device cpu"):
        slot_graph("fill", dtypes)
