"""Products of one input become one product: a layer's queries, keys and values; the memory of all decoder layers.

One large product is faster than several small ones, and where products are quantized their input is quantized once.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.passes.initializers import take_over
from export.passes.matmuls import Product, find_products, joined, split


def fuse_products(model: ir.Model) -> None:
    """Replace the products that read the same value by one, whose output is split; a following Split merges in."""
    graph = model.graph
    groups: dict[tuple[ir.Value, bool], list[Product]] = {}
    for product in find_products(graph):
        groups.setdefault((product.input, bool(product.biases)), []).append(product)
    for products in groups.values():
        if len(products) > 1:
            _fuse(graph, products)
    RemoveUnusedNodesPass()(model)


def _fuse(graph: ir.Graph, products: list[Product]) -> None:
    first = products[0].nodes[0]
    weights = joined(graph, first, tuple(weight for product in products for weight in product.weights))
    turned = ir.node("Transpose", [weights], attributes={"perm": [1, 0]})
    nodes = [turned, ir.node("MatMul", [products[0].input, turned.outputs[0]])]
    graph.insert_before(first, nodes)
    if products[0].biases:
        biases = joined(graph, first, tuple(bias for product in products for bias in product.biases))
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], biases]))
        graph.insert_before(first, nodes[-1])
    parts = [part for product in products for part in _parts(product)]
    taken_apart = split(graph, first, nodes[-1].outputs[0], [size for _, size in parts])
    for (old, _), new in zip(parts, taken_apart, strict=True):
        take_over(old, new)


def _parts(product: Product) -> list[tuple[ir.Value, int]]:
    """Return the values that take over from a product, and their widths: its output, or the even parts of it."""
    readers = list(product.output.uses())
    if len(readers) != 1 or product.output.is_graph_output():
        return [(product.output, product.width)]
    node = readers[0].node
    rank = len(product.output.shape) if product.output.shape is not None else 0
    even = node.op_type == "Split" and len(node.inputs) == 1 and product.width % len(node.outputs) == 0
    if not even or node.attributes["axis"].as_int() not in (-1, rank - 1):
        return [(product.output, product.width)]
    return [(part, product.width // len(node.outputs)) for part in node.outputs]
