"""Float16 graphs: what is half in them, what is not, and what they add to a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from export.errors import ExportError
from export.graphs import ExportedModel, export_graphs
from export.passes.float16 import make_half
from export.passes.weights import int8_weights, store_shared
from export.precisions import precision_graphs
from tests.unit.export.passes.graph_runs import exported, tied_model
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings

SETTINGS = TransformerSettings(dim=32, heads=4, feedforward_dim=48, encoder_layers=1, decoder_layers=1)


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(SETTINGS, Vocabulary(40, 40)).eval()


@pytest.fixture(scope="module")
def graphs(model: Transformer) -> ExportedModel:
    return export_graphs(model)


def decoder(graphs: ExportedModel) -> ir.Graph:
    return precision_graphs(graphs, ["fp16"], {}, {}, {})["decoder.fp16.onnx"].graph


def inputs(graph: ir.Graph, operator: str) -> set[ir.DataType | None]:
    return {node.inputs[0].dtype for node in graph if node.op_type == operator and node.inputs[0] is not None}


def test_products_attention_and_norms_are_half_and_the_search_is_not(graphs: ExportedModel) -> None:
    graph = decoder(graphs)
    for operator in ("MatMul", "Attention", "LayerNormalization", "ScatterElements"):
        assert inputs(graph, operator) == {ir.DataType.FLOAT16}, operator
    for operator in ("LogSoftmax", "TopK"):
        assert inputs(graph, operator) == {ir.DataType.FLOAT}, operator
    norms = [node for node in graph if node.op_type == "LayerNormalization"]
    assert all(node.attributes.get_int("stash_type", 1) == 1 for node in norms)  # statistics in float32


def test_caches_are_half_and_what_the_host_feeds_keeps_its_type(graphs: ExportedModel) -> None:
    graph = decoder(graphs)
    half = {str(value.name) for value in graph.inputs if value.dtype is ir.DataType.FLOAT16}
    assert half == {f"{kind}_0" for kind in ("cross_keys", "cross_values", "past_self_keys", "past_self_values")}
    assert {str(value.name) for value in graph.outputs if value.dtype is ir.DataType.FLOAT16} == {
        "present_self_keys_0",
        "present_self_values_0",
    }


@pytest.mark.parametrize("int8_storage", [False, True])
def test_weights_are_stored_once_for_both(
    model: Transformer, graphs: ExportedModel, tmp_path: Path, int8_storage: bool
) -> None:
    stored = int8_weights(model) if int8_storage else {}
    sizes = []
    for precisions in (["fp32"], ["fp32", "fp16"]):
        made = precision_graphs(graphs, precisions, stored, {}, {})  # type: ignore[arg-type]
        store_shared(list(made.values()), tmp_path)
        sizes.append((tmp_path / "weights.bin").stat().st_size)
    assert sizes[0] == sizes[1]


def test_a_step_needs_nothing_that_cannot_be_recorded_as_a_cuda_graph(graphs: ExportedModel) -> None:
    """Divisions by sizes copy them to the GPU; reductions by maximum go through cuDNN."""
    operators = {node.op_type for node in decoder(graphs)}
    assert operators.isdisjoint({"Div", "Mod", "ArgMax", "ReduceMax", "If", "Loop"})


def test_a_weight_beyond_float16_is_refused() -> None:
    model = tied_model()
    with torch.no_grad():
        model.projection.weight[3, 4] = 1e5
    with pytest.raises(ExportError, match="holds 1e\\+05, float16 ends at 65504"):
        make_half(exported(model), [])


def test_small_constants_are_rounded_into_the_range(graphs: ExportedModel) -> None:
    for initializer in decoder(graphs).initializers.values():
        array = initializer.const_value
        assert array is not None
        if array.dtype is ir.DataType.FLOAT16:
            assert np.isneginf(array.numpy()).all() or np.isfinite(array.numpy()).all()
