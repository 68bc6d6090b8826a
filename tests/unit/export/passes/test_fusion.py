"""Products of one input become one, and the graph computes what it did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from export.graphs import _export
from export.passes.fusion import fuse_products
from export.passes.initializers import name_parameters
from export.passes.matmuls import find_products
from serving.bundle.manifest import Axis, TensorSpec
from tests.unit.export.passes.graph_runs import DIM, VOCABULARY, exported, operators, run, tied_model

ROWS = np.random.default_rng(0).integers(0, VOCABULARY, size=(5, 2))


def test_products_of_one_input_are_one_and_a_split_behind_them_merges(tmp_path: Path) -> None:
    model = tied_model()
    graph = exported(model)
    name_parameters(graph.graph, model)
    before = run(graph, tmp_path / "before.onnx", ROWS)
    assert len(find_products(graph.graph)) == 6
    fuse_products(graph)
    fused, *others = find_products(graph.graph)
    assert len(others) == 3
    assert {weight.name for weight in fused.weights} == {"query.weight", "key_value.weight", "gate.weight"}
    assert {bias.name for bias in fused.biases} == {"query.bias", "key_value.bias", "gate.bias"}
    assert fused.width == 4 * DIM
    assert operators(graph).count("Split") == 1
    assert graph.graph.outputs[1].name == "keys"
    for old, new in zip(before, run(graph, tmp_path / "after.onnx", ROWS), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_second_pass_changes_nothing() -> None:
    model = tied_model()
    graph = exported(model)
    name_parameters(graph.graph, model)
    fuse_products(graph)
    once = operators(graph)
    fuse_products(graph)
    assert operators(graph) == once


def test_products_with_and_without_biases_stay_apart(tmp_path: Path) -> None:
    model = tied_model()
    model.gate = nn.Linear(DIM, DIM, bias=False)
    graph = exported(model)
    name_parameters(graph.graph, model)
    before = run(graph, tmp_path / "before.onnx", ROWS)
    fuse_products(graph)
    widths = [product.width for product in find_products(graph.graph)]
    assert sorted(widths)[:2] == [DIM, DIM]
    assert 3 * DIM in widths
    for old, new in zip(before, run(graph, tmp_path / "after.onnx", ROWS), strict=True):
        np.testing.assert_array_equal(old, new)


def test_products_of_two_axes_are_found() -> None:
    cell = nn.GRUCell(DIM, DIM)
    state = [TensorSpec(name=name, dtype="float32", axes=(Axis.SLOT, DIM)) for name in ("x", "past", "present")]
    graph = _export(cell, (), state[:2], state[2:])
    name_parameters(graph.graph, cell)
    found = {weight.name for product in find_products(graph.graph) for weight in product.weights}
    assert found == {"weight_ih", "weight_hh"}
