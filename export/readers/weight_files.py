"""Weights as Hugging Face keeps them: safetensors or pickled tensors, in one file or in shards with an index."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from export.errors import ReadingError
from export.readers.reading import Weights, read_object

_FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there, alone or as shards


def read_weights(source: Path) -> Weights:
    """Read all tensors, as float32; nothing in the files is executed.

    Raises:
        ReadingError: There is no file, or one is damaged, not what the index says, or holds more than tensors.
    """
    for name in _FILES:
        if (source / name).is_file():
            return _checked(_tensors(source / name))
        if (index := source / f"{name}.index.json").is_file():
            return _checked(_shards(index))
    raise ReadingError([f"there is neither {' nor '.join(_FILES)}"])


def _shards(index: Path) -> Weights:
    """Read the files that an index names; each weight from the file where it should be."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ReadingError([f"{index.name} does not say which file has which weight"])
    weights: Weights = {}
    for file in sorted(set(places.values())):
        if file != Path(file).name or file in {"", ".", ".."} or not (index.parent / file).is_file():
            raise ReadingError([f"{index.name} names {file!r}, which is no file beside it"])
        found, wanted = _tensors(index.parent / file), {name for name, place in places.items() if place == file}
        if unlike := sorted(found.keys() ^ wanted):
            raise ReadingError([f"{file} and {index.name} differ: {', '.join(unlike[:3])}"])
        weights |= found
    return weights


def _tensors(path: Path) -> Weights:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ReadingError([f"{path.name} is damaged or holds something else than weights ({reason})"]) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ReadingError([f"{path.name} holds something else than named weights"])
    return weights


def _checked(weights: Weights) -> Weights:
    """Refuse what is no array of numbers of its own: converted, it could be larger than any file."""
    reasons = [
        f"weight {name} is not of floating-point numbers"
        for name, weight in sorted(weights.items())
        if not weight.is_floating_point()
    ]
    reasons += [
        f"weight {name} has {weight.numel()} elements in {weight.untyped_storage().nbytes()} bytes"
        for name, weight in sorted(weights.items())
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes()
    ]
    if reasons:
        raise ReadingError(reasons)
    return {name: weight.float() for name, weight in weights.items()}
