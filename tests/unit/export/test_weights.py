"""Weights on the int8 grid, and weights stored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from export.weights import WEIGHTS_FILE, round_weights, store_int8, store_shared
from serving.runtime.session import open_session


def linear_graph(weight: NDArray[np.float32], *, transposed: bool) -> ir.Model:
    """y = x @ weight.T, with the weight as it is or transposed beforehand."""
    matrix_held = np.ascontiguousarray(weight.T if transposed else weight)
    held = ir.Value(
        name="weight",
        const_value=ir.tensor(matrix_held, name="weight"),
        shape=ir.Shape(matrix_held.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    x = ir.Value(name="x", shape=ir.Shape(["row", weight.shape[1]]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = []
    matrix = held
    if not transposed:
        nodes.append(ir.node("Transpose", [held], attributes={"perm": [1, 0]}))
        matrix = nodes[0].outputs[0]
    nodes.append(ir.node("MatMul", [x, matrix]))
    y = nodes[-1].outputs[0]
    y.name, y.shape, y.type = "y", ir.Shape(["row", weight.shape[0]]), ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [y], nodes=nodes, initializers=[held], opset_imports={"": 24}, name="linear")
    return ir.Model(graph, ir_version=11)


def test_rounding_is_exact_to_half_a_step_and_to_its_own_grid() -> None:
    model = nn.Sequential(nn.Linear(40, 30), nn.Embedding(7, 12))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    rounded = round_weights(model)
    assert len(rounded) == 4  # two matrices, each as it is and transposed
    for old, new in zip(before, model.parameters(), strict=True):
        if old.ndim == 2:
            step = old.abs().amax(1, keepdim=True) / 127
            assert ((old - new).abs() <= step / 2 + 1e-7).all()
            grid = new / step
            assert (grid - grid.round()).abs().max() < 1e-3
        else:
            assert torch.equal(old, new)
    again = [parameter.detach().clone() for parameter in model.parameters()]
    round_weights(model)
    for first, second in zip(again, model.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-6, atol=0)


def test_int8_storage_computes_what_the_rounded_model_does(tmp_path: Path) -> None:
    layer = nn.Linear(64, 48, bias=False)
    rounded = round_weights(layer)
    weight = layer.weight.detach().numpy()
    graphs = [linear_graph(weight, transposed=transposed) for transposed in (False, True)]
    for graph in graphs:
        store_int8(graph, rounded)
    store_shared(graphs, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size < 2 * (48 * 64 + 4096)
    x = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    for number, graph in enumerate(graphs):
        ir.save(graph, tmp_path / f"{number}.onnx")
        found = open_session(tmp_path / f"{number}.onnx", device="cpu", threads=1).run(None, {"x": x})[0]
        np.testing.assert_allclose(found, x @ weight.T, rtol=1e-4, atol=1e-5)


def test_equal_weights_of_two_graphs_are_stored_once(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    graphs = [linear_graph(weight, transposed=False) for _ in range(2)]
    store_shared(graphs, tmp_path)
    assert (tmp_path / WEIGHTS_FILE).stat().st_size == weight.nbytes
