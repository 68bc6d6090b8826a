"""Graphs for the CPU whose matrix products are int8: a pass over the fused fp32 graphs.

Weights keep one scale for each output channel (``export.passes.weights``), inputs have one that calibration found
(``export.calibration``); LayerNorm, softmax and attention stay fp32. ``MatMulIntegerToFloat`` multiplies the integers
exactly, so a row's result does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.calibration import Histogram
from export.errors import ExportError
from export.passes.initializers import constant, take_over
from export.passes.matmuls import Product, find_products, joined
from export.passes.weights import Int8Weight, Int8Weights, int8_constants

_OPERATORS = "com.microsoft"


def quantize(model: ir.Model, weights: Int8Weights, inputs: Mapping[str, Histogram]) -> None:
    """Make the products of a graph int8, in place.

    Args:
        model: With named parameters, products fused.
        weights: By the names of their parameters; products with others stay as they are.
        inputs: What the parameters are multiplied with, by their names.

    Raises:
        ExportError: A product's input was not calibrated.
    """
    graph = model.graph
    model.opset_imports[_OPERATORS] = 1
    quantized: dict[ir.Value, tuple[ir.Value, ir.Value, ir.Value]] = {}
    for product in find_products(graph):
        names = [str(weight.name) for weight in product.weights]
        # A matrix of one row is a vector: too little work to quantize its input for.
        if product.width == 1 or any(name not in weights for name in names):
            continue
        if names[0] not in inputs:
            raise ExportError(f"{names[0]} is multiplied outside of nn.Linear: teach export/calibration.py to watch it")
        if product.input not in quantized:
            quantized[product.input] = _quantized_input(graph, product, inputs[names[0]])
        _replace(graph, product, quantized[product.input], [weights[name] for name in names])
    RemoveUnusedNodesPass()(model)


def _quantized_input(graph: ir.Graph, product: Product, seen: Histogram) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the integers of a product's input, their scale and their zero point."""
    value, producer = product.input, product.input.producer()
    # Integers from 0 hold twice as many values of one sign; and as they clip at 0, ReLU is then part of rounding.
    rectified = producer is not None and producer.op_type == "Relu"
    if producer is not None and rectified and len(list(value.uses())) == 1 and producer.inputs[0] is not None:
        value = producer.inputs[0]
    return quantized_input(graph, product.nodes[0], value, str(product.weights[0].name), seen, 0 if rectified else 128)


def quantized_input(
    graph: ir.Graph, before: ir.Node, value: ir.Value, name: str, seen: Histogram, zero: int = 128
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Round a value to unsigned bytes.

    Args:
        graph: Of the value.
        before: The node to insert the rounding before.
        value: What is to be rounded.
        name: Of the parameter that it is multiplied with.
        seen: Magnitudes of the value.
        zero: The integer that stands for 0.

    Returns:
        The integers, their scale and their zero point.
    """
    scale = constant(graph, f"{name}.input_scale_{zero}", np.array(seen.step(255 - zero), dtype=np.float32))
    zero_point = constant(graph, f"uint8_{zero}", np.array(zero, dtype=np.uint8))
    node = ir.node("QuantizeLinear", [value, scale, zero_point])
    graph.insert_before(before, node)
    return node.outputs[0], scale, zero_point


def _replace(
    graph: ir.Graph, product: Product, quantized: tuple[ir.Value, ir.Value, ir.Value], weights: list[Int8Weight]
) -> None:
    integers, scale, zero_point = quantized
    place = product.nodes[-1]
    pairs = [
        int8_constants(graph, str(weight.name), int8) for weight, int8 in zip(product.weights, weights, strict=True)
    ]
    values = ir.node(
        "Transpose", [joined(graph, place, tuple(values for values, _ in pairs))], attributes={"perm": [1, 0]}
    )
    axis = constant(graph, "axis_1", np.array([1], dtype=np.int64))
    scales = ir.node("Squeeze", [joined(graph, place, tuple(scales for _, scales in pairs)), axis])
    biases = joined(graph, place, product.biases) if product.biases else None
    node = ir.node(
        "MatMulIntegerToFloat",
        [integers, values.outputs[0], scale, scales.outputs[0], zero_point, None, biases],
        domain=_OPERATORS,
    )
    graph.insert_before(place, [values, scales, node])
    take_over(product.output, node.outputs[0])
