"""Initializers bear the names of the parameters they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from export.passes.initializers import held, name_parameters
from tests.unit.export.passes.graph_runs import VOCABULARY, exported, operators, run, tied_model

ROWS = np.random.default_rng(0).integers(0, VOCABULARY, size=(3, 2))


def test_every_parameter_is_there_once_under_its_first_name_as_pytorch_has_it(tmp_path: Path) -> None:
    model = tied_model()
    graph = exported(model)
    before = run(graph, tmp_path / "before.onnx", ROWS)
    name_parameters(graph.graph, model)
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(held(graph.graph.initializers[name]), parameter.detach().numpy())
    assert "projection.weight" not in graph.graph.initializers  # tied: the embedding's
    others = [value for name, value in graph.graph.initializers.items() if "." not in name]
    assert all(held(value).size == 1 for value in others), "a matrix without a name"
    for old, new in zip(before, run(graph, tmp_path / "after.onnx", ROWS), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_constant_that_is_no_parameter_is_left_alone() -> None:
    model, other = tied_model(), tied_model()
    with torch.no_grad():
        other.contract.weight.add_(1)
    graph = exported(model)
    name_parameters(graph.graph, other)
    assert "contract.weight" not in graph.graph.initializers
    assert operators(graph).count("Transpose") == operators(graph).count("MatMul") - 1
