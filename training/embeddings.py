"""Embeddings that start from vectors trained elsewhere: word2vec (Mikolov 2013) or GloVe (Pennington et al. 2014).

Formats are told apart by content: word2vec text has a header line with the number of words and dimensions, GloVe text
has none, and word2vec binary has the header and then, for each word, its spelling, a space and float32 numbers.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.tokenizer import Tokenizer
from training.data.words import SPACE, Words
from training.errors import DataError, ModelError
from training.models.contract import LanguageModel

_LOG = logging.getLogger(__name__)

_PROBE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class EmbeddingSettings:
    """Vectors that the embeddings start from.

    Attributes:
        source: File of vectors for the source language, plain or .gz; None for random ones.
        target: For the target language; for tied embeddings one of the two is enough.
        frozen: Keep the vectors that were found as they are; the others are still trained.
    """

    source: Path | None = None
    target: Path | None = None
    frozen: bool = False


@dataclass(frozen=True)
class Coverage:
    """Share of a vocabulary that a file of vectors has.

    Attributes:
        found: Tokens with a vector.
        tokens: Tokens of the vocabulary.
        running: Share of the training text's tokens that have one, 0 to 1.
    """

    found: int
    tokens: int
    running: float

    def __str__(self) -> str:
        return f"{self.found} of {self.tokens} tokens, which make up {100 * self.running:.1f} % of the text"


def read_vectors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Stream the words of a file with their vectors, shape (dim,), float32.

    Raises:
        DataError: If the file is missing, damaged, or in none of the formats.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with cast("IO[bytes]", opener(path, "rb")) as file:
            start = file.read(_PROBE)
            file.seek(0)
            if not start:
                raise DataError(f"the file of vectors {path} is empty")
            first, _, rest = start.partition(b"\n")
            header = len(first.split()) == 2 and all(word.isdigit() for word in first.split())
            if header and not _is_text(rest):
                yield from _read_binary(file, path)
            else:
                yield from _read_text(file, path, header=header)
    except OSError as error:
        raise DataError(f"the file of vectors {path} cannot be read: {error.strerror or error}") from error


def _is_text(rest: bytes) -> bool:
    """Tell whether the first line after the header is a word and decimal numbers."""
    try:
        values = rest.split(b"\n")[0].split()[1:]
        return len(values) > 0 and all(np.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _read_text(file: IO[bytes], path: Path, *, header: bool) -> Iterator[tuple[str, NDArray[np.float32]]]:
    dim = int(file.readline().split()[1]) if header else None
    for number, line in enumerate(file, start=2 if header else 1):
        fields = line.rstrip().split(b" ")
        dim = len(fields) - 1 if dim is None else dim
        try:
            # From the end: the words of some GloVe files have spaces in them.
            vector = np.array(fields[-dim:], dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: one of {dim} numbers is none") from error
        if len(fields) <= dim or dim == 0:
            raise DataError(
                f"{path}, line {number}: {len(fields)} fields, but there should be a word and {dim} numbers"
            )
        yield b" ".join(fields[:-dim]).decode(errors="replace"), vector


def _read_binary(file: IO[bytes], path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    count, dim = map(int, file.readline().split())
    for number in range(1, count + 1):
        word = bytearray()
        while (byte := file.read(1)) not in {b" ", b""}:
            word += byte
        values = file.read(4 * dim)
        if len(values) < 4 * dim:
            raise DataError(f"{path}: the file ends in word {number} of {count}; copy it again")
        # Some writers end each vector with a newline, which then begins the next word.
        yield word.lstrip(b"\n").decode(errors="replace"), np.frombuffer(values, dtype="<f4")


def spellings(tokenizer: Tokenizer) -> list[tuple[str, ...]]:
    """Under which names a vector may be meant for each token, best first.

    That is the token as it is, and the word it makes by itself, as it is and in lower case. A subword inside a word
    makes none.
    """
    names = list[tuple[str, ...]]()
    for piece in tokenizer.pieces:
        whole = piece.startswith(SPACE) or isinstance(tokenizer, Words)
        word = piece.removeprefix(SPACE)
        names.append((piece, word, word.lower()) if whole else (piece,))
    return names


def match_vectors(path: Path, tokenizer: Tokenizer, dim: int) -> dict[int, NDArray[np.float32]]:
    """Find vectors for tokens.

    Returns:
        By token id, the vector, shape (dim,), float32, of its best spelling; of several with one spelling, the first.
        Subwords inside words have one only in a file of subwords, where some are spelt with U+2581.

    Raises:
        DataError: If the file cannot be read, or its vectors have another dimension than ``dim``.
    """
    wanted, inside = dict[str, list[tuple[int, int]]](), set[int]()
    for number, names in enumerate(spellings(tokenizer)):
        inside |= {number} if len(names) == 1 else set()
        for rank, name in enumerate(names):
            wanted.setdefault(name, []).append((number, rank))
    found, of_subwords = dict[int, tuple[int, NDArray[np.float32]]](), False
    for word, vector in read_vectors(path):
        if len(vector) != dim:
            raise DataError(f"{path} has vectors of {len(vector)} numbers, but the model's embeddings have {dim}")
        of_subwords = of_subwords or word.startswith(SPACE)
        for number, rank in wanted.get(word, ()):
            if number not in found or rank < found[number][0]:
                found[number] = (rank, vector)
    return {number: vector for number, (_, vector) in found.items() if of_subwords or number not in inside}


def initialise_embeddings(
    model: LanguageModel,
    tokenizers: dict[str, Tokenizer],
    counts: dict[str, NDArray[np.int64]],
    settings: EmbeddingSettings,
) -> dict[str, Coverage]:
    """Replace embeddings for which vectors are found, in place; vectors are scaled to the length of random ones.

    Args:
        model: With ``source_embedding`` and ``target_embedding``, whose weights may be one.
        tokenizers: By side.
        counts: By side, how often each token occurs in the training text, shape (vocab,), int64.
        settings: Files, and whether their vectors stay as they are.

    Returns:
        By side, what was found.

    Raises:
        DataError: If a file cannot be read or does not fit.
        ModelError: If the model has no embedding of that side.
    """
    coverage = {}
    for side, path in (("source", settings.source), ("target", settings.target)):
        if path is None:
            continue
        embedding = getattr(model, f"{side}_embedding", None)
        if not isinstance(embedding, nn.Embedding):
            raise ModelError(f"embeddings.{side} is given, but {type(model).__name__} has no embedding of that side")
        weight = embedding.weight
        vectors = match_vectors(path, tokenizers[side], weight.shape[1])
        rows = torch.tensor(sorted(vectors), dtype=torch.int64)
        if len(rows):
            _set_rows(weight, rows, torch.from_numpy(np.stack([vectors[int(row)] for row in rows])))
        if settings.frozen:
            freeze_rows(weight, rows)
        total = counts[side].sum()
        coverage[side] = Coverage(
            len(vectors), weight.shape[0], float(counts[side][rows.numpy()].sum() / max(total, 1))
        )
        _LOG.info("%s embeddings from %s: %s", side, path, coverage[side])
    return coverage


@torch.no_grad()
def _set_rows(weight: Tensor, rows: Tensor, vectors: Tensor) -> None:
    scale = weight.norm(dim=1).mean() / vectors.norm(dim=1).mean().clamp_min(1e-12)
    weight[rows] = (vectors * scale).to(weight.dtype)


def freeze_rows(weight: Tensor, rows: Tensor) -> None:
    """Keep rows, shape (row,), of a weight from ever changing: their gradient is zero, and Adam's step then is too."""
    keep = torch.ones(weight.shape[0], 1)
    keep[rows] = 0.0
    weight.register_hook(lambda gradient: gradient * keep.to(gradient))
