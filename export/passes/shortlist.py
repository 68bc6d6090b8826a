"""Graphs whose output layer has only the tokens that the sentences of a grid may use.

The encoder puts out columns of the output layer, those of the tokens that it is asked for, and the grid keeps one
matrix of them. A step multiplies all hypotheses with this matrix, and gathers for each slot the logits of its own
shortlist, in the order of the list: so no answer depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn
from torch.nn import functional as F

from export.calibration import Inputs
from export.errors import ExportError
from export.modules.candidates import CandidateDecoder, Listed
from export.modules.contract import Attended, FamilyDecoder, FamilyEncoder, StepInputs
from export.passes.initializers import constant, take_over
from export.passes.quantization import quantized_input
from export.passes.weights import Int8Weights, int8_constants
from serving.bundle.manifest import Axis, TensorSpec
from serving.bundle.shortlist import OUTPUT_BIASES
from training.models.contract import TranslationModel

SHORTLIST_FILE = "shortlist.npz"
COLUMNS_INPUT = TensorSpec(name="columns", dtype="int64", axes=(Axis.COLUMN,))
_WEIGHTS, _SCALES = "output_weights", "output_scales"


@contextmanager
def projection_of(model: TranslationModel[Any]) -> Iterator[nn.Linear]:
    """Take the output layer out of a model for a while, so that its logits are what that layer reads."""
    projection = cast("nn.Linear", model.vocab_projection)
    model.vocab_projection = nn.Identity()
    try:
        yield projection
    finally:
        model.vocab_projection = projection


class ShortlistEncoder(nn.Module):
    """A family's encoder, and columns of the output layer."""

    def __init__(self, encoder: FamilyEncoder, projection: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, projection

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The family's, and the columns."""
        return (*self.encoder.outputs, *column_specs(self.projection))

    def forward(self, source: Tensor, lengths: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
        """Map source (source, src), lengths (source,) and tokens (column,), all int64, to ``outputs``."""
        weights = F.embedding(columns, self.projection.weight).transpose(0, 1)
        bias = self.projection.bias
        biases = torch.zeros_like(columns, dtype=torch.float32) if bias is None else bias[columns]
        return *self.encoder(source, lengths), weights, biases


class ShortlistDecoder(CandidateDecoder):
    """A family's decoder, without its output layer, and the best candidates of each slot's shortlist."""

    def __init__(
        self, decoder: FamilyDecoder, projection: nn.Linear, suppressed: Sequence[int], *, renormalize: bool = False
    ) -> None:
        super().__init__(decoder, suppressed, renormalize=renormalize)
        self.lists = _list_specs(projection.out_features)
        self.columns = column_specs(projection)

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """The family's, and each slot's shortlist."""
        return (*super().memory, *self.lists)

    def score(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Listed | None, Attended, list[Tensor]]:
        """Take the logits of each slot's list; shapes as for the base class, ``columns`` behind ``memory``."""
        tokens, places, index, weights, biases = memory[-len(self.lists) - len(self.columns) :]
        hidden, _, attended, present = super().score(step, lengths, memory[: len(super().memory)], past)
        # One slot more: ONNX Runtime adds up the products of a single row in another order.
        logits = torch.cat([hidden, hidden[:1]]) @ weights + biases
        own = _gather(logits, places.expand(-1, logits.shape[1], -1))
        return own, Listed(tokens, index), attended, present


def _gather(logits: Tensor, places: Tensor) -> Tensor:
    """Take logits (slot + 1, beam, column) at int32 ``places`` (slot, beam, shortlist), as ``Tensor.gather`` does."""
    found: Tensor = torch.onnx.ops.symbolic(
        "GatherElements", (logits, places), {"axis": -1}, dtype=logits.dtype, shape=places.shape, version=13
    )
    return found


def _list_specs(vocabulary: int) -> tuple[TensorSpec, ...]:
    """Declare a slot's shortlist: its tokens, the columns they are in, and where in it each token is."""
    return (
        TensorSpec(name="shortlist_tokens", dtype="int64", axes=(Axis.SLOT, Axis.SHORTLIST)),
        TensorSpec(name="shortlist_columns", dtype="int32", axes=(Axis.SLOT, 1, Axis.SHORTLIST)),
        TensorSpec(name="shortlist_index", dtype="int32", axes=(Axis.SLOT, vocabulary)),
    )


def column_specs(projection: nn.Linear) -> tuple[TensorSpec, ...]:
    """Declare the part of the output layer that a grid's sentences share."""
    return (
        TensorSpec(name=_WEIGHTS, dtype="float32", axes=(projection.in_features, Axis.COLUMN)),
        TensorSpec(name=OUTPUT_BIASES, dtype="float32", axes=(Axis.COLUMN,)),
    )


def quantized_specs(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Declare columns, or the encoder's outputs, of int8 graphs: columns of integers, and their scales."""
    found: list[TensorSpec] = []
    for spec in specs:
        found.append(spec.model_copy(update={"dtype": "int8"}) if spec.name == _WEIGHTS else spec)
        if spec.name == _WEIGHTS:
            found.append(TensorSpec(name=_SCALES, dtype="float32", axes=(Axis.COLUMN,)))
    return tuple(found)


def quantize_shortlist(encoder: ir.Model, decoder: ir.Model, weights: Int8Weights, inputs: Inputs) -> None:
    """Make the output layer int8, in place.

    Args:
        encoder: Of a shortlist, not yet quantized.
        decoder: The same.
        weights: By the names of their parameters.
        inputs: What the parameters are multiplied with, by their names.

    Raises:
        ExportError: The output matrix is not among them.
    """
    name = _gather_columns(encoder, weights)
    if name not in inputs:
        raise ExportError(f"{name} is multiplied outside of nn.Linear: teach export/calibration.py to watch it")
    graph = decoder.graph
    decoder.opset_imports["com.microsoft"] = 1
    held = {str(value.name): value for value in graph.inputs}
    held[_WEIGHTS].type = ir.TensorType(ir.DataType.INT8)
    scales = ir.Value(name=_SCALES, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([Axis.COLUMN.value]))
    graph.inputs.append(scales)
    product = next((use.node for use in held[_WEIGHTS].uses() if use.node.op_type == "MatMul"), None)
    total = next((use.node for use in held[OUTPUT_BIASES].uses() if use.node.op_type == "Add"), None)
    twice = product.inputs[0].producer() if product is not None and product.inputs[0] is not None else None
    hidden = twice.inputs[0] if twice is not None and twice.op_type == "Concat" else None
    if product is None or total is None or hidden is None:
        raise ExportError(f"{_WEIGHTS} is not multiplied and added to: the exporter writes products in another way now")
    integers, scale, zero = quantized_input(graph, total, hidden, name, inputs[name])  # exact in any order
    multiplied = ir.node(
        "MatMulIntegerToFloat",
        [integers, held[_WEIGHTS], scale, scales, zero, None, held[OUTPUT_BIASES]],
        domain="com.microsoft",
    )
    graph.insert_before(total, multiplied)
    take_over(total.outputs[0], multiplied.outputs[0])
    RemoveUnusedNodesPass()(decoder)


def _gather_columns(encoder: ir.Model, weights: Int8Weights) -> str:
    """Let the encoder put out integers and scales of the columns; return the name of the output matrix."""
    graph = encoder.graph
    turned = next(value for value in graph.outputs if value.name == _WEIGHTS).producer()
    gather = turned.inputs[0].producer() if turned is not None and turned.inputs[0] is not None else None
    if turned is None or gather is None or gather.op_type != "Gather":
        raise ExportError(f"{_WEIGHTS} is not gathered from a matrix: the exporter writes it in another way now")
    name = str(gather.inputs[0].name if gather.inputs[0] is not None else "")
    if name not in weights:
        raise ExportError(f"the output matrix {name} has no int8 form")
    values, scales = int8_constants(graph, name, weights[name])
    rows, row_scales = (ir.node("Gather", [table, gather.inputs[1]]) for table in (values, scales))
    columns = ir.node("Transpose", [rows.outputs[0]], attributes={"perm": [1, 0]})
    axis = constant(graph, "axis_1", np.array([1], dtype=np.int64))
    flat = ir.node("Squeeze", [row_scales.outputs[0], axis])
    graph.insert_before(turned, [rows, row_scales, columns, flat])
    take_over(turned.outputs[0], columns.outputs[0])
    columns.outputs[0].type = ir.TensorType(ir.DataType.INT8)
    scale = flat.outputs[0]
    scale.name, scale.type = _SCALES, ir.TensorType(ir.DataType.FLOAT)
    scale.shape = ir.Shape([Axis.COLUMN.value])
    graph.outputs.append(scale)
    RemoveUnusedNodesPass()(encoder)
    return name
