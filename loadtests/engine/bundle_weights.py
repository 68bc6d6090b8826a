"""The weights of a bundle by the names of the parameters they came from, read out of its ONNX graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from serving.bundle.bundle import Bundle

Array = NDArray[Any]
Weights = Mapping[str, NDArray[np.float32]]


def read_weights(bundle: Bundle, precision: str = "fp32") -> Weights:
    """Reads the parameters that the encoder and the decoder of a precision hold.

    Matrices stored as int8 are multiplied out. A matrix that the graph holds the other way round, as ONNX's MatMul
    wants it, is turned back to PyTorch's (output, input).

    Returns:
        Parameters by their dotted names in ``training.models``, float32.
    """
    graphs = bundle.manifest.precisions[precision]
    weights: dict[str, NDArray[np.float32]] = {}
    for graph in (graphs.encoder, graphs.decoder):
        for name, array in _parameters(onnx.load(bundle.path(graph.file)).graph):
            # "decoder.model.decoder_norm.weight" and "model.decoder_norm.weight" are the same parameter.
            weights[name.removeprefix("decoder.").removeprefix("model.")] = array
    return weights


def _parameters(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[np.float32]]]:
    names, constants = _constants(graph)
    users = {value: node for node in graph.node for value in node.input}
    for value, name in names.items():
        if name.endswith(".transposed"):
            yield name.removesuffix(".transposed"), constants[value].T
        elif "." in name:
            yield name, constants[value]
    for node in graph.node:
        # x @ W + b, where the bias still has the name of its layer.
        if node.op_type == "MatMul" and node.input[1] in constants and (add := users.get(node.output[0])) is not None:
            for bias in add.input if add.op_type == "Add" else ():
                if names.get(bias, "").endswith(".bias"):
                    yield names[bias].removesuffix("bias") + "weight", constants[node.input[1]].T


def _constants(graph: onnx.GraphProto) -> tuple[dict[str, str], dict[str, Array]]:
    """Initializers, and int8 ones multiplied out: the names of their parameters, and their contents, by value."""
    names = {tensor.name: tensor.name for tensor in graph.initializer}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0].endswith(".int8"):
            constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
            names[node.output[0]] = names.pop(node.input[0]).removesuffix(".int8")
        elif node.op_type == "Mul" and node.input[1].endswith(".scales"):
            constants[node.output[0]] = constants[node.input[0]] * constants[node.input[1]]
            names[node.output[0]] = names.pop(node.input[0])
            del names[node.input[1]]
    return names, constants
