"""Names of initializers: those of the model's parameters.

The exporter folds transposed weights into constants called ``val_43``. Here each parameter gets its dotted name and the
layout it has in PyTorch back; a ``Transpose`` node, which ONNX Runtime folds while it loads the graph, turns it where
MatMul wants it turned. So both graphs and all their readers hold a parameter once, and find it by its name.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn


def name_parameters(graph: ir.Graph, model: nn.Module) -> None:
    """Make every initializer that holds a parameter or buffer of a model, as it is or transposed, bear its name.

    A parameter that modules share has the first of its names. Equal contents under two names stay apart where the
    exporter knew the names, as with the biases of a new model, which are all zero.
    """
    tensors = {name: tensor.detach().numpy() for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    names: dict[str, str] = {}
    turned: dict[str, str] = {}
    for name, array in tensors.items():
        names.setdefault(digest(array), name)
        if array.ndim == 2:
            turned.setdefault(digest(array.T), name)
    for initializer in list(graph.initializers.values()):
        array = held(initializer)
        key = digest(array)
        own = _suffix(str(initializer.name), tensors)
        if own is not None and digest(tensors[own]) == key:
            _replace(graph, initializer, constant(graph, own, array))
        elif array.ndim >= 2 and key in names:
            _replace(graph, initializer, constant(graph, names[key], array))
        elif key in turned:
            name = turned[key]
            transpose = ir.node("Transpose", [constant(graph, name, tensors[name])], attributes={"perm": [1, 0]})
            graph.insert_before(graph[0], transpose)
            _replace(graph, initializer, transpose.outputs[0])


def held(initializer: ir.Value) -> NDArray[Any]:
    """Return the content of an initializer, of its own shape."""
    if initializer.const_value is None:
        raise ValueError(f"{initializer.name} has no content")
    return initializer.const_value.numpy()


def constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Return the initializer of that name, made of ``array`` (any shape) if there is none."""
    if name not in graph.initializers:
        tensor = ir.tensor(np.ascontiguousarray(array), name=name)
        graph.register_initializer(
            ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        )
    return graph.initializers[name]


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Lets a value stand wherever another stood, under its name."""
    new.name, new.shape, new.type = old.name, old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def digest(array: NDArray[Any]) -> str:
    """Hash of an array's shape, type and content."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).hexdigest()


def _suffix(name: str, tensors: dict[str, NDArray[Any]]) -> str | None:
    """Return the longest end of a dotted name that is a parameter's: exported modules wrap the model in others."""
    parts = name.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in tensors), None)


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    if old is not new:
        old.replace_all_uses_with(new)
        graph.initializers.pop(str(old.name))
