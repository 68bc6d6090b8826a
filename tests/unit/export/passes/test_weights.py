"""Weights on the int8 grid, and weights stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from export.passes.initializers import constant
from export.passes.weights import WEIGHTS_FILE, int8_weights, round_weights, store_int8, store_shared
from serving.runtime.session import open_session


def linear_graph(weight: NDArray[np.float32]) -> ir.Model:
    """y = x @ weight.T, and rows = weight[numbers]."""
    x = ir.Value(name="x", shape=ir.Shape(["row", weight.shape[1]]), type=ir.TensorType(ir.DataType.FLOAT))
    numbers = ir.Value(name="numbers", shape=ir.Shape(["row"]), type=ir.TensorType(ir.DataType.INT64))
    graph = ir.Graph([x, numbers], [], nodes=[], opset_imports={"": 24}, name="linear")
    held = constant(graph, "weight", weight)
    turned = ir.node("Transpose", [held], attributes={"perm": [1, 0]})
    graph.extend([turned, ir.node("MatMul", [x, turned.outputs[0]]), ir.node("Gather", [held, numbers])])
    for node, name, width in zip(list(graph)[1:], ("y", "rows"), weight.shape, strict=True):
        value = node.outputs[0]
        value.name, value.shape, value.type = name, ir.Shape(["row", width]), ir.TensorType(ir.DataType.FLOAT)
        graph.outputs.append(value)
    return ir.Model(graph, ir_version=11)


def test_rounding_is_exact_to_half_a_step_and_to_its_own_grid() -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.Embedding(7, 12))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rounded = int8_weights(model)
    round_weights(model, rounded)
    assert rounded.keys() == {"0.weight", "1.weight"}
    largest = max(int(np.abs(weight.values.astype(int)).max()) for weight in rounded.values())
    assert 2 * 255 * largest < 2**15, "processors without VNNI add pairs of products with bytes in 16 bits"
    for old, new in zip(before, model.parameters(), strict=True):
        if old.ndim == 2:
            step = old.abs().amax(1, keepdim=True) / 64
            assert ((old - new).abs() <= step / 2 + 1e-7).all()
            grid = new / step
            assert (grid - grid.round()).abs().max() < 1e-3
        else:
            assert torch.equal(old, new)
    again = [parameter.detach().clone() for parameter in model.parameters()]
    round_weights(model, int8_weights(model))
    for first, second in zip(again, model.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=0)


def test_int8_storage_computes_what_the_rounded_model_does(tmp_path: Path) -> None:
    layer = nn.Linear(64, 48, bias=False)
    rounded = int8_weights(layer)
    round_weights(layer, rounded)
    weight = layer.weight.detach().numpy()
    graphs = [linear_graph(weight) for _ in range(2)]
    for graph in graphs:
        store_int8(graph, rounded)
        assert not any(
            value.dtype == ir.DataType.FLOAT and value.shape == weight.shape for value in initializers(graph)
        )
    store_shared(graphs, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == 48 * 64
    x, numbers = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32), np.array([0, 7, 7, 47, 1])
    for number, graph in enumerate(graphs):
        ir.save(graph, tmp_path / f"{number}.onnx")
        session = open_session(tmp_path / f"{number}.onnx", device="cpu", threads=1)
        y, rows = session.run(["y", "rows"], {"x": x, "numbers": numbers})
        np.testing.assert_allclose(y, x @ weight.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(rows, weight[numbers])


def test_matrices_without_int8_values_stay_as_they_are(tmp_path: Path) -> None:
    graph = linear_graph(np.eye(8, dtype=np.float32))
    store_int8(graph, {})
    assert [value.name for value in initializers(graph)] == ["weight"]


def test_equal_weights_of_two_graphs_are_stored_once(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    graphs = [linear_graph(weight) for _ in range(2)]
    store_shared(graphs, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == weight.nbytes


def initializers(graph: ir.Model) -> list[ir.Value]:
    return list(graph.graph.initializers.values())
