"""Weights on disk: once for both graphs, in fp32 or as int8 with one scale for each output channel.

In an fp32 graph int8 is storage only. ``round_weights`` puts the PyTorch weights on the int8 grid first, so that the
graph, which multiplies the integers by their scales at load, holds exactly the weights the verified model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from export.passes.initializers import constant, digest, take_over

WEIGHTS_FILE = "weights.bin"
_SMALLEST = 1024  # bytes; smaller constants stay in the graph
_ALIGNMENT = 64  # bytes
# The largest integer. Two products of 64 and a byte fit into 16 bits, in which x86 processors without VNNI add them: so
# products are exact on every processor, and fast (docs/adr/0006).
_LARGEST = 64


@dataclass(frozen=True)
class Int8Weight:
    """A matrix on the int8 grid: weight = values * scales.

    Attributes:
        values: Shape (output, input), int8.
        scales: Shape (output, 1), float32.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


Int8Weights = dict[str, Int8Weight]


def int8_weights(model: nn.Module) -> Int8Weights:
    """Return a model's matrices by first name, in int8 per output channel: scale = max |w| / 64 over its inputs."""
    found: Int8Weights = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            weight = parameter.detach().numpy()
            largest = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12).astype(np.float32)
            scales = largest / np.float32(_LARGEST)
            found[name] = Int8Weight(np.clip(np.rint(weight / scales), -_LARGEST, _LARGEST).astype(np.int8), scales)
    return found


@torch.no_grad()
def round_weights(model: nn.Module, weights: Int8Weights) -> None:
    """Put the matrices of a model on their int8 grid, in place."""
    for name, weight in weights.items():
        model.get_parameter(name).copy_(torch.from_numpy(weight.values.astype(np.float32) * weight.scales))


def store_int8(model: ir.Model, weights: Int8Weights) -> None:
    """Replace matrices by their integers and scales, and the product of the two.

    Rows that are looked up are multiplied after that, so that a table stays int8 in memory.

    Args:
        model: With named parameters.
        weights: By the names of their parameters.
    """
    graph = model.graph
    for name in sorted(graph.initializers.keys() & weights.keys()):
        initializer = graph.initializers[name]
        values, scales = int8_constants(graph, name, weights[name])
        for node, index in list(initializer.uses()):
            if node.op_type == "Gather" and index == 0 and node.attributes.get_int("axis", 0) == 0:
                rows = [ir.node("Gather", [table, node.inputs[1]]) for table in (values, scales)]
                graph.insert_before(node, rows)
                product = _multiplied(graph, node, rows[0].outputs[0], rows[1].outputs[0])
                take_over(node.outputs[0], product)
                graph.remove(node, safe=True)
            else:
                node.replace_input_with(index, _multiplied(graph, node, values, scales))
        graph.initializers.pop(name)


def int8_constants(graph: ir.Graph, name: str, weight: Int8Weight) -> tuple[ir.Value, ir.Value]:
    """Return the initializers NAME.int8 and NAME.scales of a parameter, made if there are none."""
    return constant(graph, f"{name}.int8", weight.values), constant(graph, f"{name}.scales", weight.scales)


def _multiplied(graph: ir.Graph, before: ir.Node, values: ir.Value, scales: ir.Value) -> ir.Value:
    cast = ir.node("Cast", [values], attributes={"to": ir.DataType.FLOAT})
    product = ir.node("Mul", [cast.outputs[0], scales])
    graph.insert_before(before, [cast, product])
    return product.outputs[0]


def store_shared(models: Sequence[ir.Model], directory: Path) -> None:
    """Write all large initializers to one file beside the graphs, each content once.

    Args:
        models: Graphs that will lie in ``directory``; their initializers become references into the file.
        directory: Where the bundle is written.
    """
    places: dict[str, tuple[int, int]] = {}
    with (directory / WEIGHTS_FILE).open("wb") as file:
        for model in models:
            for initializer in model.graph.initializers.values():
                tensor: Any = initializer.const_value
                data = np.ascontiguousarray(tensor.numpy())
                if data.nbytes < _SMALLEST:
                    continue
                key = digest(data)
                if key not in places:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    places[key] = file.tell(), data.nbytes
                    file.write(data.tobytes())
                offset, length = places[key]
                initializer.const_value = ir.ExternalTensor(
                    WEIGHTS_FILE,
                    offset,
                    length,
                    tensor.dtype,
                    shape=tensor.shape,
                    name=str(initializer.name),
                    base_dir=directory,
                )
