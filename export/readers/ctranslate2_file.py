"""``model.bin`` of CTranslate2, binary versions 2 to 6: named variables, little-endian, and aliases of them.

The format is defined by ``ctranslate2/specs/model_spec.py``, which writes version 6, and for older ones by the C++
library's ``src/models/model.cc``, which reads them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.errors import ReadingError
from export.readers.reading import Weights

_VERSIONS = range(2, 7)
_DTYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")  # by id, from version 4
_BY_SIZE = {4: "float32", 2: "int16", 1: "int8"}  # before
_SIZES = {"float32": 4, "int8": 1, "int16": 2, "int32": 4, "float16": 2, "bfloat16": 2}
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class ModelFile:
    """Content of the file.

    Attributes:
        version: Of the format.
        spec: Name of the kind of model, such as ``TransformerSpec``.
        revision: Of that kind's variables.
        variables: Arrays and scalars by name, aliases resolved, as they are stored.
    """

    version: int
    spec: str
    revision: int
    variables: Weights

    def taken(self, name: str, default: Any = None) -> Any:
        """Take a scalar out of the variables; returns a number, or the default if there is none."""
        value = self.variables.pop(name, None)
        return default if value is None else value.item()


def read_model_file(path: Path) -> ModelFile:
    """Read the file.

    Raises:
        ReadingError: It is missing, cut off, of another version, or a size in it contradicts another.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReadingError([f"{path.name} cannot be read ({error.strerror})"]) from error
    try:
        return _Reader(data).model()
    except (struct.error, UnicodeDecodeError, _DamageError) as error:
        raise ReadingError([f"{path.name} is damaged or not a model of CTranslate2 ({error})"]) from error


class _DamageError(Exception):
    """A size or a name in the file cannot be true."""


class _Reader:
    """Reads values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 0

    def model(self) -> ModelFile:
        version = self._number("I")
        if version not in _VERSIONS:
            raise ReadingError([f"model.bin has binary version {version}, {_VERSIONS[0]} to {_VERSIONS[-1]} are read"])
        spec, revision = self._string(), self._number("I")
        variables: Weights = {}
        for _ in range(self._number("I")):
            name = self._string()
            if name in variables:
                raise _DamageError(f"{name} is there twice")
            variables[name] = self._variable(name, version)
        if version >= 3:
            for _ in range(self._number("I")):
                alias, name = self._string(), self._string()
                if name not in variables or alias in variables:
                    raise _DamageError(f"{alias} cannot stand for {name}")
                variables[alias] = variables[name]
                if f"{name}_scale" in variables:  # goes with it unsaid
                    variables[f"{alias}_scale"] = variables[f"{name}_scale"]
        if self._at < len(self._data):
            raise _DamageError(f"{len(self._data) - self._at} bytes are left at its end")
        return ModelFile(version, spec, revision, variables)

    def _number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f"<{kind}", self._data, self._at)
        self._at += struct.calcsize(f"<{kind}")
        return int(value)

    def _string(self) -> str:
        content = self._bytes(self._number("H"))
        if not content or content[-1] != 0:
            raise _DamageError("a name has no end")
        return content[:-1].tobytes().decode()

    def _bytes(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise _DamageError(f"it ends {size - (len(self._data) - self._at)} bytes too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def _variable(self, name: str, version: int) -> Tensor:
        rank = self._number("B")
        if rank > _MOST_DIMENSIONS:
            raise _DamageError(f"{name} has {rank} dimensions")
        shape, kind = [self._number("I") for _ in range(rank)], self._number("B")
        dtype = _BY_SIZE.get(kind) if version < 4 else _DTYPES[kind] if kind < len(_DTYPES) else None
        if dtype is None:
            raise _DamageError(f"{name} is of an unknown type {kind}")
        size = self._number("I") * (1 if version >= 4 else kind)
        if size != math.prod(shape) * _SIZES[dtype]:
            raise _DamageError(f"{name} has {size} bytes, which shape {tuple(shape)} does not have")
        content = self._bytes(size)
        if dtype == "bfloat16":
            return torch.frombuffer(bytearray(content), dtype=torch.bfloat16).reshape(shape)
        array = np.frombuffer(content, dtype=np.dtype(dtype).newbyteorder("<"))
        return torch.from_numpy(array.astype(dtype).reshape(shape))
