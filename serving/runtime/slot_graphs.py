"""Tiny graphs that fill, move and widen tensors where they lie, on any device ONNX Runtime has.

Serving does not install the onnx package, so their few protobuf fields are written here (onnx.proto, IR version 10).
Each graph treats many tensors in one run: tensor i is ``x{i}``, what becomes of it ``y{i}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_IR_VERSION, _OPSET = 10, 21
_INT64 = 7
_ELEMENTS = {"float32": 1, "int32": 6, "int64": _INT64, "bool": 9, "float16": 10}  # TensorProto.DataType


def fill_graph(dtypes: Sequence[str]) -> bytes:
    """y{i} = x{i} repeated to ``shape{i}``, a tensor on the host."""
    nodes = [_node("Expand", (f"x{i}", f"shape{i}"), f"y{i}") for i in range(len(dtypes))]
    return _model(dtypes, nodes, [f"shape{i}" for i in range(len(dtypes))])


def fit_graph(dtypes: Sequence[str], ranks: Sequence[int]) -> bytes:
    """y{i} = x{i} cut off at ``ends{i}``, then with as many zeros as ``pads{i}`` says; both tensors on the host.

    x and y may lie in one place: what is cut lies elsewhere before y is written.
    """
    nodes, starts = [], []
    for i, rank in enumerate(ranks):
        starts.append(_tensor(f"starts{i}", np.zeros(rank, dtype=np.int64)))
        nodes.append(_node("Slice", (f"x{i}", f"starts{i}", f"ends{i}"), f"cut{i}"))
        nodes.append(_node("Pad", (f"cut{i}", f"pads{i}"), f"y{i}"))
    return _model(dtypes, nodes, [f"{name}{i}" for i in range(len(ranks)) for name in ("ends", "pads")], starts)


def keep_graph(dtypes: Sequence[str]) -> bytes:
    """y{i} = slots ``order`` (kept slot,) of x{i}.

    x and y may lie in one place if no slot is read that another one is written to. (CUDA's ScatterND, which would write
    only what moves, copies each slot with a single thread.)
    """
    nodes = [_node("Gather", (f"x{i}", "order"), f"y{i}") for i in range(len(dtypes))]
    return _model(dtypes, nodes, ["order"])


def _model(
    dtypes: Sequence[str], nodes: Iterable[bytes], integers: Iterable[str], initializers: Iterable[bytes] = ()
) -> bytes:
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"slots")
    graph += b"".join(_bytes(5, tensor) for tensor in initializers)
    graph += b"".join(_bytes(11, _value(f"x{i}", _ELEMENTS[dtype])) for i, dtype in enumerate(dtypes))
    graph += b"".join(_bytes(11, _value(name, _INT64)) for name in integers)
    graph += b"".join(_bytes(12, _value(f"y{i}", _ELEMENTS[dtype])) for i, dtype in enumerate(dtypes))
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return (
        b"".join(_bytes(1, name.encode()) for name in inputs)
        + _bytes(2, output.encode())
        + _bytes(4, operator.encode())
    )


def _value(name: str, element: int) -> bytes:
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, element)))


def _tensor(name: str, array: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes:
    return _number(1, array.size) + _number(2, _INT64) + _bytes(8, name.encode()) + _bytes(9, array.tobytes())


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
