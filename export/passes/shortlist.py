"""Graphs whose output layer has only the tokens of each sentence's shortlist.

The encoder takes the rows of the output matrix that a sentence's shortlist names, and they become memory of its slot;
a step multiplies with them in place of the whole matrix. Every slot has its own, so no answer depends on the batch.
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
from export.modules.contract import FamilyDecoder, FamilyEncoder, StepInputs, encoder_outputs
from export.passes.initializers import constant, take_over
from export.passes.weights import Int8Weights, int8_constants
from serving.bundle.manifest import Axis, TensorSpec
from training.models.contract import TranslationModel

SHORTLIST_FILE = "shortlist.npz"
SHORTLIST_INPUT = TensorSpec(name="shortlist", dtype="int64", axes=(Axis.SOURCE, Axis.SHORTLIST))
_WEIGHTS, _SCALES = "shortlist_weights", "shortlist_scales"
_ZERO = 128  # of unsigned integers


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
    """A family's encoder, and the part of the output layer that each source needs."""

    def __init__(self, encoder: FamilyEncoder, projection: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.projection = encoder, projection

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The family's, and the decoder's share of the output layer."""
        return (*self.encoder.outputs, *encoder_outputs(layer_specs(self.projection)))

    def forward(self, source: Tensor, lengths: Tensor, shortlist: Tensor) -> tuple[Tensor, ...]:
        """Map source (source, src), lengths (source,), tokens (source, shortlist), padded with -1, to ``outputs``."""
        tokens, vocabulary = shortlist.clamp(min=0), self.projection.out_features
        index = torch.full((shortlist.shape[0], vocabulary + 1), -1, dtype=torch.int32)
        ranks = torch.arange(shortlist.shape[1], dtype=torch.int32).expand_as(shortlist)
        index = index.scatter(1, torch.where(shortlist < 0, vocabulary, shortlist), ranks)
        layer = [
            tokens,
            index,
            shortlist.unsqueeze(1) >= 0,
            F.embedding(tokens, self.projection.weight).transpose(1, 2),
        ]
        if self.projection.bias is not None:
            layer.append(self.projection.bias[tokens].unsqueeze(1))
        return *self.encoder(source, lengths), *layer


class ShortlistDecoder(CandidateDecoder):
    """A family's decoder, without its output layer, and the best candidates of each slot's shortlist."""

    def __init__(
        self, decoder: FamilyDecoder, projection: nn.Linear, suppressed: Sequence[int], *, renormalize: bool = False
    ) -> None:
        super().__init__(decoder, suppressed, renormalize=renormalize)
        self.layer = layer_specs(projection)

    @property
    def memory(self) -> tuple[TensorSpec, ...]:
        """The family's, and its share of the output layer."""
        return (*super().memory, *self.layer)

    def score(
        self, step: StepInputs, lengths: Tensor, memory: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, Listed | None, Tensor, list[Tensor]]:
        """Run the family's step and multiply with each slot's output layer; shapes as for the base class."""
        family = len(memory) - len(self.layer)
        tokens, index, real, weights, *biases = memory[family:]
        hidden, _, alignment, present = super().score(step, lengths, memory[:family], past)
        logits = hidden @ weights
        for bias in biases:
            logits = logits + bias
        return logits.masked_fill(~real, -torch.inf), Listed(tokens, index), alignment, present


def layer_specs(projection: nn.Linear) -> tuple[TensorSpec, ...]:
    """Declare a slot's share of the output layer. The index has one place more, for padding."""
    one = (Axis.SLOT, 1, Axis.SHORTLIST)
    specs = (
        TensorSpec(name="shortlist_tokens", dtype="int64", axes=(Axis.SLOT, Axis.SHORTLIST)),
        TensorSpec(name="shortlist_index", dtype="int32", axes=(Axis.SLOT, projection.out_features + 1)),
        TensorSpec(name="shortlist_real", dtype="bool", axes=one),
        TensorSpec(name=_WEIGHTS, dtype="float32", axes=(Axis.SLOT, projection.in_features, Axis.SHORTLIST)),
    )
    biases = TensorSpec(name="shortlist_biases", dtype="float32", axes=one)
    return specs if projection.bias is None else (*specs, biases)


def quantized_specs(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Declare memory, or the encoder's outputs, of int8 graphs: rows of integers, and their scales."""
    found: list[TensorSpec] = []
    for spec in specs:
        found.append(spec.model_copy(update={"dtype": "uint8"}) if spec.name == _WEIGHTS else spec)
        if spec.name == _WEIGHTS:
            found.append(spec.model_copy(update={"name": _SCALES, "axes": (spec.axes[0], 1, Axis.SHORTLIST)}))
    return tuple(found)


def quantize_shortlist(encoder: ir.Model, decoder: ir.Model, weights: Int8Weights, inputs: Inputs) -> None:
    """Make the output layer int8, in place.

    The rows become unsigned: ONNX Runtime turns constant weights into what is exact on every processor (docs/adr/0006),
    but not memory, and products of unsigned integers are exact everywhere.

    Args:
        encoder: Of a shortlist, not yet quantized.
        decoder: The same.
        weights: By the names of their parameters.
        inputs: What the parameters are multiplied with, by their names.

    Raises:
        ExportError: The output matrix is not among them.
    """
    name = _gather_rows(encoder, weights)
    if name not in inputs:
        raise ExportError(f"{name} is multiplied outside of nn.Linear: teach export/calibration.py to watch it")
    graph = decoder.graph
    decoder.opset_imports["com.microsoft"] = 1
    held = next(value for value in graph.inputs if value.name == _WEIGHTS)
    held.type = ir.TensorType(ir.DataType.UINT8)
    scales = ir.Value(name=_SCALES, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["slot", 1, "shortlist"]))
    graph.inputs.append(scales)
    product = next((use.node for use in held.uses() if use.node.op_type == "MatMul"), None)  # others read its shape
    if product is None:
        raise ExportError(f"nothing is multiplied with {_WEIGHTS}: the exporter writes products in another way now")
    zero = constant(graph, f"uint8_{_ZERO}", np.array(_ZERO, dtype=np.uint8))
    step = np.array(inputs[name].step(127), dtype=np.float32)
    scale = constant(graph, "shortlist.input_scale", step)
    integers = ir.node("QuantizeLinear", [product.inputs[0], scale, zero])
    multiplied = ir.node(
        "MatMulIntegerToFloat",
        [integers.outputs[0], held, scale, scales, zero, zero],
        domain="com.microsoft",
    )
    graph.insert_before(product, [integers, multiplied])
    take_over(product.outputs[0], multiplied.outputs[0])
    RemoveUnusedNodesPass()(decoder)


def _gather_rows(encoder: ir.Model, weights: Int8Weights) -> str:
    """Let the encoder put out integers and scales of the rows; return the name of the output matrix."""
    graph = encoder.graph
    turned = next(value for value in graph.outputs if value.name == _WEIGHTS).producer()
    gather = turned.inputs[0].producer() if turned is not None and turned.inputs[0] is not None else None
    if turned is None or gather is None or gather.op_type != "Gather":
        raise ExportError(f"{_WEIGHTS} is not gathered from a matrix: the exporter writes it in another way now")
    name = str(gather.inputs[0].name if gather.inputs[0] is not None else "")
    if name not in weights:
        raise ExportError(f"the output matrix {name} has no int8 form")
    values, scales = int8_constants(graph, name, weights[name])
    tokens = gather.inputs[1]
    rows, row_scales = (ir.node("Gather", [table, tokens]) for table in (values, scales))
    wrapped = ir.node("Cast", [rows.outputs[0]], attributes={"to": ir.DataType.UINT8})  # -1 is 255
    flip = constant(graph, f"uint8_{_ZERO}", np.array(_ZERO, dtype=np.uint8))
    shifted = ir.node("BitwiseXor", [wrapped.outputs[0], flip])  # the integer + 128
    outputs = [
        ir.node("Transpose", [value], attributes={"perm": [0, 2, 1]})
        for value in (shifted.outputs[0], row_scales.outputs[0])
    ]
    graph.insert_before(turned, [rows, row_scales, wrapped, shifted, *outputs])
    take_over(turned.outputs[0], outputs[0].outputs[0])
    outputs[0].outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    scale = outputs[1].outputs[0]
    scale.name, scale.type = _SCALES, ir.TensorType(ir.DataType.FLOAT)
    scale.shape = ir.Shape(["source", 1, "shortlist"])
    graph.outputs.append(scale)
    RemoveUnusedNodesPass()(encoder)
    return name
