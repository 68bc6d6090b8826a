"""Files of other toolkits' models, and a Transformer made of named weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from export.errors import ReadingError
from training.errors import ModelError
from training.models.contract import Vocabulary
from training.models.transformer import Transformer, TransformerSettings

_LARGEST_JSON = 64 << 20  # bytes; a vocabulary of 256,000 pieces has 8 MB

Weights = dict[str, Tensor]


def read_bytes(path: Path, limit: int = _LARGEST_JSON) -> bytes:
    """Read a small file.

    Raises:
        ReadingError: It is missing or too large.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise ReadingError([f"{path.name} has {size} bytes, at most {limit} are read"])
        return path.read_bytes()
    except OSError as error:
        raise ReadingError([f"{path.name} cannot be read ({error.strerror})"]) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ReadingError: It is missing, too large or not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise ReadingError([f"{path.name} is not JSON ({str(error) or type(error).__name__})"]) from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        ReadingError: It is missing, too large or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ReadingError([f"{path.name} is not a JSON object"])
    return content


def assemble(settings: TransformerSettings, vocabulary: Vocabulary, weights: Mapping[str, Tensor]) -> Transformer:
    """Build a Transformer of weights.

    Args:
        settings: Sizes and variants.
        vocabulary: Sizes and special ids.
        weights: By the names of the parameters, those of tied ones each under its own; any floating-point dtype.

    Raises:
        ReadingError: Weights are missing, superfluous, of the wrong shape or not finite; lists all of them.
    """
    try:
        with torch.device("meta"):  # sizes that lie take no memory
            own = Transformer(settings, vocabulary).state_dict()
    except (ModelError, RuntimeError) as error:
        raise ReadingError([str(error).partition("\n")[0]]) from error
    reasons = [f"there is no weight {name}" for name in sorted(own.keys() - weights.keys())]
    reasons += [f"weight {name} has no place in the model" for name in sorted(weights.keys() - own.keys())]
    for name in sorted(own.keys() & weights.keys()):
        given, wanted = weights[name], own[name]
        if given.shape != wanted.shape:
            reasons.append(f"weight {name} has shape {tuple(given.shape)}, the model needs {tuple(wanted.shape)}")
        elif not _finite(given, banned=vocabulary.suppressed if name == "vocab_projection.bias" else ()):
            reasons.append(f"weight {name} is not finite")
    if reasons:
        raise ReadingError(reasons)
    model = Transformer(settings, vocabulary)
    model.load_state_dict(dict(weights))
    return model.eval()


def _finite(weight: Tensor, banned: tuple[int, ...]) -> bool:
    finite = weight.isfinite()
    finite[list(banned)] = True
    return bool(finite.all())


def tied(settings: TransformerSettings, vocabulary: Vocabulary, weights: Mapping[str, Tensor]) -> TransformerSettings:
    """Tie those embeddings that are equal."""
    source, target, output = (
        weights[f"{name}.weight"] for name in ("source_embedding", "target_embedding", "vocab_projection")
    )
    if not torch.equal(target, output):
        return replace(settings, tie="none")
    return replace(settings, tie="all" if vocabulary.shared and torch.equal(source, target) else "target")


def with_filler(vocabulary: Vocabulary, weights: Weights, banned: tuple[int, ...]) -> tuple[Vocabulary, Weights]:
    """Add a token behind the last one, to fill rows with: its probability is 0, so that all else stays as it was.

    Args:
        vocabulary: Without such a token.
        weights: The embeddings, and the projection with its bias; the bias is made if there is none.
        banned: Other tokens that decoding never emits.
    """
    filler = vocabulary.target_size
    rows = max(filler + 1, vocabulary.source_size)
    grown = dict(weights)
    grown["source_embedding.weight"] = _padded(weights["source_embedding.weight"], rows)
    for name in ("target_embedding.weight", "vocab_projection.weight"):
        grown[name] = _padded(weights[name], filler + 1)
    bias = weights.get("vocab_projection.bias", torch.zeros(filler))
    grown["vocab_projection.bias"] = functional.pad(bias, (0, 1), value=-torch.inf)
    barred = (*banned, filler)
    return replace(vocabulary, source_size=rows, target_size=filler + 1, pad=filler, banned=barred), grown


def _padded(table: Tensor, rows: int) -> Tensor:
    return functional.pad(table, (0, 0, 0, rows - table.shape[0]))
