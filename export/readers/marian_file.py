"""Model files of Marian: ``.npz``, a zip of NumPy arrays, and ``.bin``, binary version 1; both hold named matrices.

Marian's ``io.cpp`` writes ``.npz``, its ``binary.cpp`` ``.bin``: little-endian headers, names, shapes, and the contents
one after the other from a multiple of 256 bytes on. A matrix in 8 or 16 bits (intgemm) is transposed, but for
embeddings, and followed by the float32 that its values were multiplied by.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from export.errors import ReadingError
from export.readers.binary_file import BinaryFile, DamageError
from export.readers.reading import Weights

OPTIONS = "special:model.yml"

_LARGEST = 4 << 30  # bytes of all arrays
_MOST_TIMES = 200  # that an array may grow when unpacked; Marian does not pack
_MOST_DIMENSIONS = 4
_VERSION, _ENCRYPTED = 1, 2
_VERSIONS = 1 << 10  # below which the first eight bytes are a version, now or one day
_ALIGNMENT = 256  # bytes that contents are filled up to
_HEADER = struct.Struct("<4Q")  # length of the name, type, number of dimensions, bytes
_PLAIN = {0x0101: "i1", 0x0404: "<f4", 0x0402: "<f2", 0x0408: "<f8"}
_QUANTIZED = {0x4101: "i1", 0x4102: "<i2"}  # intgemm8, intgemm16
_PACKED = 0x0800  # for one kind of processor, by FBGEMM


@dataclass(frozen=True)
class MarianFile:
    """Content of a model file.

    Attributes:
        weights: In float32, multiplied out where they were integers; rows of one element are vectors.
        options: Of the model, YAML.
    """

    weights: Weights
    options: str


def recognises(path: Path) -> bool:
    """Return whether a file is a model of Marian, by its content."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begin = file.read(8)
    if begin.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                return f"{OPTIONS}.npy" in archive.namelist()
        except (zipfile.BadZipFile, OSError):
            return path.suffix == ".npz"  # cut off; reading it says so
    return len(begin) == 8 and 0 < struct.unpack("<Q", begin)[0] < _VERSIONS


def read_model_file(path: Path) -> MarianFile:
    """Read a file of either kind.

    Raises:
        ReadingError: It is missing, damaged, of another version, or holds something else than numbers.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ReadingError([f"{path.name} has more than {_LARGEST} bytes"])
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return _model(_zipped(path) if zipped else _arrays(BinaryFile(path.read_bytes())))
    except (struct.error, zlib.error, zipfile.BadZipFile, DamageError, ValueError, RuntimeError, EOFError) as error:
        raise ReadingError([f"{path.name} is damaged or not a model of Marian ({error})"]) from error
    except OSError as error:
        raise ReadingError([f"{path.name} cannot be read ({error})"]) from error


def _model(arrays: dict[str, NDArray[np.generic]]) -> MarianFile:
    options = arrays.pop(OPTIONS, None)
    if options is None or options.dtype.itemsize != 1:
        raise DamageError(f"there is no {OPTIONS} in it")
    if integers := sorted(name for name, array in arrays.items() if array.dtype.kind != "f"):
        raise ReadingError([f"weight {name} is not of floating-point numbers" for name in integers])
    weights = {name: torch.from_numpy(_squeezed(array)) for name, array in arrays.items()}
    return MarianFile(weights, options.tobytes().rstrip(b"\0").decode())


def _squeezed(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Biases, norms and scalars are matrices of one row in these files."""
    return array.astype(np.float32).reshape(array.shape[-1:] if array.size == array.shape[-1] else array.shape)


def _zipped(path: Path) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _LARGEST:
            raise DamageError(f"its arrays have more than {_LARGEST} bytes")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise DamageError(f"{name} is there twice")
            if member.file_size > _MOST_TIMES * max(member.compress_size, 1):
                raise DamageError(f"{name} grows more than {_MOST_TIMES} times when unpacked")
            arrays[name] = _array(name, archive.read(member))
    return arrays


def _array(name: str, content: bytes) -> NDArray[np.generic]:
    """Read an array whose header agrees with its size; no object is ever unpickled."""
    stream = io.BytesIO(content)
    try:
        header = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = header(stream)
    except (ValueError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise DamageError(f"{name} has no header of NumPy's, version 1 or 2") from error
    if dtype.hasobject:
        raise DamageError(f"{name} holds pickled objects, which are never loaded")
    values = stream.read()
    _check(name, shape, dtype, len(values))
    return np.frombuffer(values, dtype=dtype).reshape(shape, order="F" if by_columns else "C")


def _check(name: str, shape: Sequence[int], dtype: np.dtype[np.generic], size: int, *, slack: int = 0) -> None:
    """Refuse a shape that an array of so many bytes, or up to ``slack`` fewer, cannot have."""
    needed = math.prod(shape) * dtype.itemsize
    if not 0 < len(shape) <= _MOST_DIMENSIONS or min(shape) < 1 or not needed <= size <= needed + slack:
        raise DamageError(f"{name} has {size} bytes, which shape {tuple(shape)} of {dtype} does not have")


def _arrays(file: BinaryFile) -> dict[str, NDArray[np.generic]]:
    version = file.number("Q")
    if version == _ENCRYPTED:
        raise ReadingError(["it is encrypted: give the file that it was made of"])
    if version != _VERSION:
        raise ReadingError([f"it has binary version {version}, {_VERSION} is read"])
    headers = [_HEADER.unpack(file.content(_HEADER.size)) for _ in range(file.number("Q"))]
    names = [file.name(length) for length, *_ in headers]
    shapes = [file.numbers("i", rank) for _, _, rank, _ in headers]
    file.content(file.number("Q"))
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, (_, kind, _, size), shape in zip(names, headers, shapes, strict=True):
        if name in arrays:
            raise DamageError(f"{name} is there twice")
        arrays[name] = _content(name, kind, shape, file.content(size))
    file.end()
    return arrays


def _content(name: str, kind: int, shape: tuple[int, ...], content: memoryview) -> NDArray[np.generic]:
    """Take an array out of its bytes, which are filled up at the end."""
    if kind & _PACKED:
        raise ReadingError([f"{name} is packed for one kind of processor: give the file that it was made of"])
    if kind not in _PLAIN and kind not in _QUANTIZED:
        raise DamageError(f"{name} is of an unknown type {kind:#x}")
    dtype = np.dtype(_PLAIN.get(kind) or _QUANTIZED[kind])
    scale = np.dtype("<f4").itemsize if kind in _QUANTIZED else 0
    _check(name, shape, dtype, len(content) - scale, slack=_ALIGNMENT)
    count = math.prod(shape)
    values = np.frombuffer(content, dtype, count)
    if not scale:
        return values.reshape(shape)
    factor = np.frombuffer(content, "<f4", 1, count * dtype.itemsize)
    if not (np.isfinite(factor).all() and factor[0] > 0):
        raise DamageError(f"{name} was multiplied by {factor[0]}")
    real = values * (np.float32(1) / factor)
    if "Wemb" in name:
        return real.reshape(shape)
    return real.reshape(shape[-1], -1).T.reshape(shape)
