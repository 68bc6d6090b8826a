"""Int8 products: the very integers, nothing dynamic, no row that depends on its neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from export.calibration import Histogram
from export.errors import ExportError
from export.passes.fusion import fuse_products
from export.passes.initializers import held, name_parameters
from export.passes.quantization import quantize
from export.passes.weights import Int8Weights, int8_weights, store_int8
from tests.unit.export.passes.graph_runs import VOCABULARY, Tied, exported, operators, run, tied_model

MATRICES = ("query", "key_value", "gate", "expand", "contract", "embedding")


def histograms(model: Tied) -> dict[str, Histogram]:
    """Of values that the inputs of this model's products have."""
    inputs: dict[str, Histogram] = {}
    for name in MATRICES:
        inputs[f"{name}.weight"] = Histogram()
        inputs[f"{name}.weight"].add(torch.randn(1000, generator=torch.Generator().manual_seed(len(name))))
    return inputs


def quantized(model: Tied) -> ir.Model:
    graph = exported(model)
    name_parameters(graph.graph, model)
    fuse_products(graph)
    weights = int8_weights(model)
    quantize(graph, weights, histograms(model))
    store_int8(graph, weights)
    return graph


class Numbers:
    """The same model in NumPy, integer for integer."""

    def __init__(self, graph: ir.Model, model: Tied) -> None:
        self.held = {name: held(value) for name, value in graph.graph.initializers.items()}
        self.weights: Int8Weights = int8_weights(model)

    def product(self, x: NDArray[np.float32], names: list[str], scaled_by: str, zero: int) -> NDArray[np.float32]:
        scale = self.held[f"{scaled_by}.weight.input_scale_{zero}"]
        integers = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64)
        values = np.concatenate([self.weights[f"{name}.weight"].values for name in names]).astype(np.int64)
        scales = np.concatenate([self.weights[f"{name}.weight"].scales for name in names])[:, 0]
        biases = [self.held.get(f"{name}.bias") for name in names]
        exact: NDArray[np.float32] = ((integers - zero) @ values.T).astype(np.float32) * (scale * scales)
        return exact if biases[0] is None else exact + np.concatenate([bias for bias in biases if bias is not None])

    def run(self, tokens: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        table = self.weights["embedding.weight"]
        x = table.values[tokens].astype(np.float32) * table.scales[tokens]
        together = self.product(x, ["key_value", "query", "gate"], "key_value", 128)
        keys, values, query, gate = np.split(together, 4, axis=-1)
        mixed = np.tanh(query) * gate + values
        hidden = np.tanh(self.product(self.product(mixed, ["expand"], "expand", 128), ["contract"], "contract", 0))
        return [self.product(hidden, ["embedding"], "embedding", 128), keys]


def test_products_are_those_of_the_integers(tmp_path: Path) -> None:
    model = tied_model()
    graph = quantized(model)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, size=(4, 3))
    for found, expected in zip(run(graph, tmp_path / "m.onnx", tokens), Numbers(graph, model).run(tokens), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


def test_every_product_is_int8_and_relu_is_part_of_rounding() -> None:
    found = operators(quantized(tied_model()))
    assert found.count("MatMulIntegerToFloat") == 4
    assert found.count("QuantizeLinear") == 4
    assert not {"MatMul", "Gemm", "Relu"} & set(found)
    assert not any("Dynamic" in name for name in found)


def test_relu_stays_where_something_else_reads_it_too() -> None:
    class Watched(Tied):
        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = torch.relu(self.expand(self.embedding(tokens)))
            return self.projection(self.contract(hidden)), hidden[..., :12]

    torch.manual_seed(0)
    assert operators(quantized(Watched().eval())).count("Relu") == 1


@pytest.mark.parametrize("rows", [32, 128])
def test_a_row_alone_is_the_row_in_company_to_the_bit(tmp_path: Path, rows: int) -> None:
    graph = quantized(tied_model())
    tokens = np.random.default_rng(rows).integers(0, VOCABULARY, size=(rows, 2))
    together = run(graph, tmp_path / "m.onnx", tokens)
    for row in (0, rows // 2, rows - 1):
        alone = run(graph, tmp_path / "m.onnx", tokens[row : row + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[row])


def test_an_input_that_was_not_calibrated_is_an_error() -> None:
    model = tied_model()
    graph = exported(model)
    name_parameters(graph.graph, model)
    inputs: dict[str, Any] = histograms(model)
    del inputs["contract.weight"]
    with pytest.raises(ExportError, match=r"contract\.weight is multiplied outside of nn\.Linear"):
        quantize(graph, int8_weights(model), inputs)


def test_matrices_that_are_not_given_stay_fp32() -> None:
    model = tied_model()
    graph = exported(model)
    name_parameters(graph.graph, model)
    weights = {name: weight for name, weight in int8_weights(model).items() if name != "contract.weight"}
    quantize(graph, weights, histograms(model))
    assert operators(graph).count("MatMul") == 1


def test_a_product_of_a_product_is_int8_too() -> None:
    class Chained(Tied):
        def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            hidden = self.contract(torch.relu(self.expand(self.embedding(tokens))))
            return self.projection(hidden), torch.tanh(hidden)

    torch.manual_seed(0)
    assert not {"MatMul", "Gemm"} & set(operators(quantized(Chained().eval())))
