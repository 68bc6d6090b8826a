"""The matrix products of a graph with weights of the model, in whichever way the exporter wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from export.passes.initializers import constant, held


@dataclass(frozen=True)
class Product:
    """output = input @ concatenated(weights).T + concatenated(biases).

    Attributes:
        nodes: What computes it, in order; the first reads ``input``.
        weights: Initializers of shape (output, input), one below the other.
        biases: Initializers of shape (output,), one after the other, or none.
        output: Shape (..., output).
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[ir.Value, ...]
    biases: tuple[ir.Value, ...]
    output: ir.Value

    @property
    def input(self) -> ir.Value:
        """Factor of the weights, shape (..., input); changes if what computed it is replaced."""
        value = self.nodes[0].inputs[0]
        if value is None:
            raise ValueError(f"{self.nodes[0].name} has no input")
        return value

    @property
    def width(self) -> int:
        """Size of the output's last axis."""
        return sum(_shape(weight)[0] for weight in self.weights)


def find_products(graph: ir.Graph) -> list[Product]:
    """All products with weights of the model, in the order of the graph."""
    found = (_product(node) for node in graph)
    return [product for product in found if product is not None]


def joined(graph: ir.Graph, before: ir.Node, parts: tuple[ir.Value, ...]) -> ir.Value:
    """Concatenates initializers along their first axis; ONNX Runtime does so while it loads the graph."""
    if len(parts) == 1:
        return parts[0]
    concat = ir.node("Concat", parts, attributes={"axis": 0})
    graph.insert_before(before, concat)
    return concat.outputs[0]


def split(graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: list[int]) -> list[ir.Value]:
    """Take a value apart along its last axis."""
    held = constant(graph, "sizes_" + "_".join(map(str, sizes)), np.array(sizes, dtype=np.int64))
    node = ir.node("Split", [value, held], attributes={"axis": -1}, num_outputs=len(sizes))
    graph.insert_before(before, node)
    return list(node.outputs)


def _product(node: ir.Node) -> Product | None:
    if node.op_type == "Gemm":
        return _gemm(node)
    weights = _transposed(node.inputs[1]) if node.op_type == "MatMul" else ()
    if not weights or node.inputs[0] is None:
        return None
    product = Product((node,), weights, (), node.outputs[0])
    readers = list(product.output.uses())
    if len(readers) != 1 or readers[0].node.op_type != "Add" or product.output.is_graph_output():
        return product
    add, index = readers[0]
    biases = _parameters(add.inputs[1 - index])
    if not biases or any(len(_shape(b)) != 1 for b in biases) or sum(_shape(b)[0] for b in biases) != product.width:
        return product
    return Product((node, add), weights, biases, add.outputs[0])


def _gemm(node: ir.Node) -> Product | None:
    """Insert a product of two axes, whose operator turns the weight itself."""
    wanted = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    x, weight, bias = (*node.inputs, None)[:3]
    if x is None or weight is None or weight.const_value is None or (bias is not None and bias.const_value is None):
        return None
    if any(name in node.attributes and node.attributes[name].value != value for name, value in wanted.items()):
        return None
    if "transB" not in node.attributes:
        return None
    return Product((node,), (weight,), () if bias is None else (bias,), node.outputs[0])


def _transposed(value: ir.Value | None) -> tuple[ir.Value, ...]:
    producer = value.producer() if value is not None else None
    if producer is None or producer.op_type != "Transpose":
        return ()
    parameters = _parameters(producer.inputs[0])
    return parameters if all(len(_shape(p)) == 2 for p in parameters) else ()


def _parameters(value: ir.Value | None) -> tuple[ir.Value, ...]:
    """Return the initializers that a value is, or is concatenated of; none if it is computed."""
    if value is None:
        return ()
    producer = value.producer()
    if producer is None:
        return (value,) if value.const_value is not None else ()
    if producer.op_type != "Concat" or producer.attributes["axis"].as_int() != 0:
        return ()
    parts = tuple(_initializers(producer))
    return parts if len(parts) == len(producer.inputs) else ()


def _initializers(node: ir.Node) -> Iterator[ir.Value]:
    return (value for value in node.inputs if value is not None and value.const_value is not None)


def _shape(value: ir.Value) -> tuple[int, ...]:
    return held(value).shape
