"""Graphs for the GPU that compute in float16: a pass over the fused fp32 graphs.

Weights, products, attention, activations, caches and memory are half. What rounds badly stays float32: log-softmax and
all that follows it (cumulative scores, both TopK), softmax outside of Attention, recurrent operators, positions
computed from integers, and the recurrent state. Normalisations read and write half; the operator's ``stash_type`` keeps
their statistics in float32, which costs no Cast.

Weights stay on disk as they are, shared with the other precisions, and are cast while a graph is loaded; the known
converters (``onnxruntime.transformers.float16``) would write them a second time.

Cache entries are written element by element: CUDA's ScatterND copies each with a single thread, which took three
quarters of a step of 256 hypotheses (docs/adr/0011).

Half ends at 65504. No finite input gives NaN, for overflow is clipped before it meets another one: where residual sums
are normalised or added to, and around activations.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from export.errors import ExportError
from export.passes.initializers import constant, held

LARGEST = float(np.finfo(np.float16).max)
_SMALL = 1024  # bytes; smaller constants are rounded here, larger ones while the graph is loaded
_FULL = {"LogSoftmax", "Softmax", "ArgMax", "TopK", "Exp", "Pow", "RNN", "GRU", "LSTM"}
_HALF = {"MatMul", "Gemm", "Attention", "LayerNormalization", "RMSNormalization"}
_NORMALISATIONS = {"LayerNormalization", "RMSNormalization"}
_ACTIVATIONS = {"Gelu", "Sigmoid"}  # of -inf they make, or are multiplied to, NaN
_BOUNDED = {"LayerNormalization", "RMSNormalization", "Attention", "Clip", "Gather", "GatherND", "Tanh"}


def make_half(model: ir.Model, carried: Collection[str]) -> None:
    """Make a graph compute in float16, in place.

    Args:
        model: With named parameters, products fused, weights not yet stored as int8.
        carried: Inputs and outputs that become float16: caches and memory. All others keep their types.

    Raises:
        ExportError: A weight is too large for float16.
    """
    _clip_overflow(model.graph)
    _Halving(model.graph, carried).run()
    _write_by_element(model.graph)


def _write_by_element(graph: ir.Graph) -> None:
    """ScatterND of rows (slot, beam, dim) at places (slot, beam, 2) becomes ScatterElements along the entries."""
    indices: dict[int, ir.Value] = {}
    for node in [node for node in graph if node.op_type == "ScatterND"]:
        buffer, places, update = node.inputs
        old = node.outputs[0]
        if old.shape is None:
            raise ExportError(f"{old.name} has no shape, from which the width of a cache entry is known")
        dim = int(old.shape[2])  # type: ignore[arg-type]
        if dim not in indices:
            entry = ir.node("Gather", [places, constant(graph, "entry_axis", np.array([1]))], attributes={"axis": 2})
            zeros = constant(graph, f"entry_zeros_{dim}", np.zeros(dim, dtype=np.int64))
            index = ir.node("Add", [entry.outputs[0], zeros])  # (slot, beam, dim)
            graph.insert_before(node, [entry, index])
            indices[dim] = index.outputs[0]
        write = ir.node("ScatterElements", [buffer, indices[dim], update], attributes={"axis": 1})
        graph.insert_before(node, write)
        written = write.outputs[0]
        _take_uses(old, written)
        for number in [number for number, output in enumerate(graph.outputs) if output is old]:
            graph.outputs[number] = written
        graph.remove(node, safe=True)
        written.name = old.name


def _clip_overflow(graph: ir.Graph) -> None:
    for node in list(graph):
        if node.op_type == "Relu":  # clipping from 0 on is ReLU
            _replace_by_clip(graph, node)
        elif node.op_type in _NORMALISATIONS | _ACTIVATIONS:
            _clip(graph, node.inputs[0])
        elif node.op_type == "MatMul" and (producer := _producer(node.inputs[0])) and producer.op_type == "Mul":
            _clip(graph, node.inputs[0])  # a gated activation


def _replace_by_clip(graph: ir.Graph, node: ir.Node) -> None:
    clip = ir.node("Clip", [node.inputs[0], *_limits(graph, 0.0)])
    graph.insert_before(node, clip)
    _take_uses(node.outputs[0], clip.outputs[0])
    graph.remove(node, safe=True)


def _clip(graph: ir.Graph, value: ir.Value | None) -> None:
    """Clips a value for all its readers."""
    producer = _producer(value)
    if value is None or producer is None or producer.op_type in _BOUNDED:
        return
    clip = ir.node("Clip", [value, *_limits(graph, -LARGEST)])
    graph.insert_after(producer, clip)
    _take_uses(value, clip.outputs[0], but=clip)


def _take_uses(old: ir.Value, new: ir.Value, but: ir.Node | None = None) -> None:
    new.type, new.shape = old.type, old.shape
    for user, index in list(old.uses()):
        if user is not but:
            user.replace_input_with(index, new)


def _limits(graph: ir.Graph, lowest: float) -> tuple[ir.Value, ir.Value]:
    low = constant(graph, f"float32_{lowest:g}", np.array(lowest, dtype=np.float32))
    return low, constant(graph, f"float32_{LARGEST:g}", np.array(LARGEST, dtype=np.float32))


def _producer(value: ir.Value | None) -> ir.Node | None:
    return value.producer() if value is not None else None


class _Halving:
    """Walks a graph from inputs to outputs; every float value is half or full, and has its other kind on demand."""

    def __init__(self, graph: ir.Graph, carried: Collection[str]) -> None:
        self._graph, self._carried = graph, carried
        self._half: set[ir.Value] = set()
        self._full: set[ir.Value] = set()
        self._other: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for value in self._graph.inputs:
            if value.dtype is ir.DataType.FLOAT:
                self._mark(value, half=value.name in self._carried)
        for node in list(self._graph):
            self._visit(node)
        for number, value in enumerate(self._graph.outputs):
            half = value.name in self._carried
            if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and half != (value in self._half):
                self._replace_output(number, value, half=half)

    def _visit(self, node: ir.Node) -> None:
        floats = [(index, value) for index, value in enumerate(node.inputs) if value is not None and self._float(value)]
        if not floats:
            if node.op_type == "Cast" and node.outputs[0].dtype is ir.DataType.FLOAT:
                self._mark(node.outputs[0], half=False)  # of integers
            return
        half = node.op_type in _HALF or (
            node.op_type not in _FULL and not any(value in self._full for _, value in floats)
        )
        if node.op_type == "Cast":
            half = False
        for index, value in floats:
            if half != (value in self._half):
                node.replace_input_with(index, self._as(value, node, half=half))
        for value in node.outputs:
            if value.dtype in (ir.DataType.FLOAT, None):
                self._mark(value, half=half)

    def _float(self, value: ir.Value) -> bool:
        if value in self._half or value in self._full:
            return True
        return value.const_value is not None and value.dtype is ir.DataType.FLOAT

    def _mark(self, value: ir.Value, *, half: bool) -> None:
        (self._half if half else self._full).add(value)
        value.type = ir.TensorType(ir.DataType.FLOAT16 if half else ir.DataType.FLOAT)

    def _as(self, value: ir.Value, before: ir.Node, *, half: bool) -> ir.Value:
        """Return the value in the other kind; a constant counts as full and is read as it is by full nodes."""
        if value.const_value is not None and not half:
            return value
        if value not in self._other:
            self._other[value] = (
                self._constant(value) if value.const_value is not None else self._cast(value, before, half)
            )
        return self._other[value]

    def _cast(self, value: ir.Value, before: ir.Node, half: bool) -> ir.Value:
        if half and value.is_graph_input():  # a mask, say, whose hidden places would become -inf
            clip = ir.node("Clip", [value, *_limits(self._graph, -LARGEST)])
            self._graph.insert_before(before, clip)
            value = clip.outputs[0]
        return self._cast_node(value, before, half)

    def _constant(self, value: ir.Value) -> ir.Value:
        array = held(value)
        if array.nbytes < _SMALL:
            finite = np.isfinite(array)
            rounded = np.where(finite, np.clip(array, -LARGEST, LARGEST), array).astype(np.float16)
            return constant(self._graph, f"{value.name}.half", rounded)
        if np.abs(array).max() > LARGEST:
            raise ExportError(
                f"{value.name} holds {np.abs(array).max():.3g}, float16 ends at {LARGEST:.0f}: export without fp16"
            )
        return self._cast_node(value, self._graph[0], True)

    def _cast_node(self, value: ir.Value, before: ir.Node, half: bool) -> ir.Value:
        to = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
        cast = ir.node("Cast", [value], attributes={"to": to})
        cast.outputs[0].shape = value.shape
        self._graph.insert_before(before, cast)
        self._mark(cast.outputs[0], half=half)
        return cast.outputs[0]

    def _replace_output(self, number: int, value: ir.Value, *, half: bool) -> None:
        name = value.name
        value.name = f"{name}.{'full' if half else 'half'}"
        cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT16 if half else ir.DataType.FLOAT})
        self._graph.append(cast)
        cast.outputs[0].name, cast.outputs[0].shape = name, value.shape
        self._mark(cast.outputs[0], half=half)
        self._graph.outputs[number] = cast.outputs[0]
