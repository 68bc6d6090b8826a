"""``model.bin`` of CTranslate2, binary versions 2 to 6: named variables, little-endian, and aliases of them.

The format is defined by ``ctranslate2/specs/model_spec.py``, which writes version 6, and for older ones by the C++
library's ``src/models/model.cc``, which reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.errors import ReadingError
from export.readers.binary_file import BinaryFile, DamageError
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
        return _model(BinaryFile(data))
    except (UnicodeDecodeError, DamageError) as error:
        raise ReadingError([f"{path.name} is damaged or not a model of CTranslate2 ({error})"]) from error


def _model(file: BinaryFile) -> ModelFile:
    version = file.number("I")
    if version not in _VERSIONS:
        raise ReadingError([f"model.bin has binary version {version}, {_VERSIONS[0]} to {_VERSIONS[-1]} are read"])
    spec, revision = file.name(file.number("H")), file.number("I")
    variables: Weights = {}
    for _ in range(file.number("I")):
        name = file.name(file.number("H"))
        if name in variables:
            raise DamageError(f"{name} is there twice")
        variables[name] = _variable(file, name, version)
    if version >= 3:
        for _ in range(file.number("I")):
            alias, name = (file.name(file.number("H")) for _ in range(2))
            if name not in variables or alias in variables:
                raise DamageError(f"{alias} cannot stand for {name}")
            variables[alias] = variables[name]
            if f"{name}_scale" in variables:  # goes with it unsaid
                variables[f"{alias}_scale"] = variables[f"{name}_scale"]
    file.end()
    return ModelFile(version, spec, revision, variables)


def _variable(file: BinaryFile, name: str, version: int) -> Tensor:
    rank = file.number("B")
    if rank > _MOST_DIMENSIONS:
        raise DamageError(f"{name} has {rank} dimensions")
    shape, kind = [file.number("I") for _ in range(rank)], file.number("B")
    dtype = _BY_SIZE.get(kind) if version < 4 else _DTYPES[kind] if kind < len(_DTYPES) else None
    if dtype is None:
        raise DamageError(f"{name} is of an unknown type {kind}")
    size = file.number("I") * (1 if version >= 4 else kind)
    if size != math.prod(shape) * _SIZES[dtype]:
        raise DamageError(f"{name} has {size} bytes, which shape {tuple(shape)} does not have")
    content = file.content(size)
    if dtype == "bfloat16":
        return torch.frombuffer(bytearray(content), dtype=torch.bfloat16).reshape(shape)
    array = np.frombuffer(content, dtype=np.dtype(dtype).newbyteorder("<"))
    return torch.from_numpy(array.astype(dtype).reshape(shape))
