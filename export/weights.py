"""How weights lie on disk: once for both graphs, in fp32 or as int8 with one scale for each output channel.

int8 here is storage only. ``round_weights`` puts the PyTorch weights on the int8 grid first, so that the graphs, which
multiply the integers by their scales once at load, hold exactly the weights the verified model has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

WEIGHTS_FILE = "weights.bin"
_SMALLEST = 1024  # bytes; smaller constants stay in the graph
_ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class Int8Weight:
    """A matrix on the int8 grid: weight = values * scales.

    Attributes:
        values: Shape (output, input), int8.
        scales: Shape (output, 1), float32.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


RoundedWeights = dict[str, Int8Weight]


@torch.no_grad()
def round_weights(model: nn.Module) -> RoundedWeights:
    """Rounds every matrix of a model to int8 per output channel, in place: scale = max |w| / 127 over its inputs.

    Returns:
        The matrices by the digest of their rounded content, as it is and transposed.
    """
    rounded: RoundedWeights = {}
    for parameter in model.parameters():
        if parameter.ndim != 2:
            continue
        weight = parameter.numpy()
        scales = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
        values = np.clip(np.rint(weight / scales), -127, 127).astype(np.int8)
        exact = values.astype(np.float32) * scales
        parameter.copy_(torch.from_numpy(exact))
        rounded[_digest(exact)] = Int8Weight(values, scales)
        rounded[_digest(exact.T)] = Int8Weight(values.T, scales.T)
    return rounded


def store_int8(model: ir.Model, rounded: RoundedWeights) -> None:
    """Replaces initializers that hold rounded matrices by their integers, scales, and the product of the two."""
    graph = model.graph
    for initializer in list(graph.initializers.values()):
        tensor = initializer.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
            continue
        found = rounded.get(_digest(tensor.numpy()))
        if found is None:
            continue
        values, scales = (
            _constant(graph, f"{initializer.name}.{kind}", array)
            for kind, array in (("int8", found.values), ("scales", found.scales))
        )
        cast = ir.node("Cast", [values], attributes={"to": ir.DataType.FLOAT})
        product = ir.node("Mul", [cast.outputs[0], scales])
        for node, index in list(initializer.uses()):
            node.replace_input_with(index, product.outputs[0])
        graph.initializers.pop(str(initializer.name))
        graph.insert_before(graph[0], [cast, product])


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.initializers[name] = value
    return value


def store_shared(models: Sequence[ir.Model], directory: Path) -> None:
    """Writes all large initializers to one file beside the graphs, each content once.

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
                key = _digest(data)
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


def _digest(array: NDArray[Any]) -> str:
    array = np.ascontiguousarray(array)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).hexdigest()
