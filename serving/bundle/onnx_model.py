"""Check of ONNX files before ONNX Runtime reads them: it would open whatever file a tensor names, and run any operator.

Only the fields of ``onnx.proto`` that matter here are declared; protobuf's own parser reads them and skips the rest, as
ONNX Runtime's does. Text is read as bytes, and what an exported graph never has only as far as to see that it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

_MAX_BYTES: Final = 256 << 20  # of a graph, whose weights are in a file of their own
_MAX_ELEMENTS: Final = 1 << 36
_MAX_DIGITS: Final = 18  # of an offset or a length
_DOMAINS: Final = frozenset({b"", b"ai.onnx", b"com.microsoft"})  # whose operators are part of ONNX Runtime
_EXTERNAL: Final = 1  # of TensorProto.DataLocation

_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
# Message: field: number, and type or message. All are repeated, so that no second one hides behind the first.
_SCHEMA: Final[dict[str, dict[str, tuple[int, int | str]]]] = {
    "Model": {
        "graph": (7, "Graph"),
        "opset_import": (8, "Opset"),
        "training_info": (20, _BYTES),
        "functions": (25, _BYTES),
    },
    "Opset": {"domain": (1, _BYTES)},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, _BYTES)},
    "Node": {"attribute": (5, "Attribute"), "domain": (7, _BYTES)},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, _BYTES),
        "tensors": (10, "Tensor"),
        "graphs": (11, _BYTES),
        "sparse_tensor": (22, _BYTES),
        "sparse_tensors": (23, _BYTES),
    },
    "Tensor": {"dims": (1, _INT64), "external_data": (13, "Entry"), "data_location": (14, _INT32)},
    "Entry": {"key": (1, _BYTES), "value": (2, _BYTES)},
}
_NEVER: Final = {
    "Model": ("training_info", "functions"),
    "Graph": ("sparse_initializer",),
    "Attribute": ("g", "graphs", "sparse_tensor", "sparse_tensors"),
}


def model_problems(path: Path, sizes: Mapping[str, int]) -> list[str]:
    """Return what is wrong with an ONNX file.

    Args:
        path: The file.
        sizes: Bytes of each file of the bundle; a tensor's data may be in no other.
    """
    if path.stat().st_size > _MAX_BYTES:
        return [f"{path.name} has more than {_MAX_BYTES >> 20} MiB; keep its weights in a file of their own"]
    model: Any = _message("Model")()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        return [f"{path.name} is not an ONNX model"]
    return [f"{path.name} {problem}" for problem in dict.fromkeys(_problems(model, sizes))]


def _problems(model: Any, sizes: Mapping[str, int]) -> Iterator[str]:
    if len(model.graph) != 1:
        yield f"holds {len(model.graph)} graphs instead of one"
    yield from _unwanted("Model", model)
    yield from _foreign(opset.domain for opset in model.opset_import)
    for graph in model.graph:
        yield from _unwanted("Graph", graph)
        yield from _foreign(node.domain for node in graph.node)
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        for attribute in attributes:
            yield from _unwanted("Attribute", attribute)
        for tensor in (*graph.initializer, *(t for a in attributes for t in (*a.t, *a.tensors))):
            yield from _tensor_problems(tensor, sizes)


def _unwanted(kind: str, message: Any) -> Iterator[str]:
    for field in _NEVER[kind]:
        if getattr(message, field):
            yield f"has {field}, which no exported graph has"


def _foreign(domains: Iterator[Any]) -> Iterator[str]:
    for domain in {bytes(name) for names in domains for name in names} - _DOMAINS:
        yield f"has operators of the domain {_shown(domain)}, which are not part of ONNX Runtime"


def _tensor_problems(tensor: Any, sizes: Mapping[str, int]) -> Iterator[str]:
    if any(size < 0 for size in tensor.dims) or prod(tensor.dims) > _MAX_ELEMENTS:
        yield f"has a tensor of the shape {list(tensor.dims)[:8]}"
    if not tensor.external_data and _EXTERNAL not in tensor.data_location:
        return
    fields = [(entry.key[-1:], entry.value[-1:]) for entry in tensor.external_data]
    entries = {key[0]: value[0] for key, value in fields if key and value}
    if len(entries) != len(fields) or entries.keys() != {b"location", b"offset", b"length"}:
        yield "has a tensor whose data is not given by one location, offset and length"
        return
    location = _shown(entries[b"location"])
    size = {_shown(name.encode()): size for name, size in sizes.items()}.get(location)
    if size is None:
        yield f"has a tensor whose data is in {location}, which is not a file of the bundle"
        return
    offset, length = entries[b"offset"], entries[b"length"]
    if not all(value.isdigit() and len(value) <= _MAX_DIGITS for value in (offset, length)):
        yield f"has a tensor whose data is at {_shown(offset)}, {_shown(length)} bytes; both must be whole numbers"
    elif int(offset) + int(length) > size:
        yield f"has a tensor whose data ends at {int(offset) + int(length)} of {location}, which has {size} bytes"


def _shown(text: bytes) -> str:
    return repr(text[:80])[1:]


@cache
def _message(name: str) -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(name="onnx_subset.proto", package="onnx_subset")
    for message, fields in _SCHEMA.items():
        declared = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            added = declared.field.add(
                name=field, number=number, label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
            )
            if isinstance(kind, str):
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = f".onnx_subset.{kind}"
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.Type.ValueType(kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"onnx_subset.{name}"))
