"""Shortlists of Marian: ``lex`` files, binary (Bergamot's ``lex.*.bin``) or text, as our own lexicon.

A binary file, by Marian's ``shortlist.cpp``: a magic number, a checksum, how many tokens everybody gets, how many are
best, two lengths; for each source token where its translations begin, and those, in 4 bytes each. A line of a text file
has a target token, a source token and a probability. Two things differ in what a sentence may then use: Marian adds
tokens until their number is a multiple of eight, and joins those of all sentences of a batch.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ReadingError
from export.readers.reading import read_bytes
from serving.bundle.shortlist import Shortlist
from training.models.contract import Vocabulary

_MAGIC = 0xF11A48D5013417F5
_HEADER = struct.Struct("<6Q")  # magic, checksum, first, best, number of offsets, number of translations
_GOLDEN, _ALL = 0x9E3779B9, (1 << 64) - 1
_MOST_TRANSLATIONS = 1000  # of one token; Marian's students have 50
_LARGEST = 256 << 20  # bytes, unpacked

Spelling = Callable[[str], int]
Ids = NDArray[np.int64]


def read_lexicon(
    path: Path, vocabulary: Vocabulary, spellings: tuple[Spelling, Spelling], sizes: tuple[int, int], threshold: float
) -> Shortlist:
    """Read a lexicon of either kind.

    Args:
        path: The file; text may be packed with gzip.
        vocabulary: Where the two sides share it, every source token is among its own translations.
        spellings: Ids of source and target tokens, unknown ones included; for text files.
        sizes: How many tokens everybody gets, the first of the target's, and how many are best; for text files.
        threshold: Least probability, for text files.

    Raises:
        ReadingError: It is damaged, or names tokens that the vocabularies do not have.
    """
    content = read_bytes(path, _LARGEST)
    if content[:8] == struct.pack("<Q", _MAGIC):
        first, lists = _binary(path.name, content, vocabulary)
    else:
        first, lists = sizes[0], _text(path.name, content, vocabulary, spellings, sizes[1], threshold)
    return _shortlist(first, lists, vocabulary)


def _shortlist(first: int, lists: list[Ids], vocabulary: Vocabulary) -> Shortlist:
    barred, eos = list(vocabulary.suppressed), vocabulary.eos
    always = np.setdiff1d(np.arange(min(first, vocabulary.target_size)), barred)
    lists = [np.setdiff1d(targets, barred) for targets in lists]
    width = max((len(targets) for targets in lists), default=0)
    best = np.full((vocabulary.source_size, width + int(vocabulary.shared)), eos, dtype=np.int32)
    for source, targets in enumerate(lists):
        best[source, : len(targets)] = targets
    if vocabulary.shared:
        best[:, -1] = np.arange(vocabulary.source_size)
        best[barred, -1] = eos
    return Shortlist(np.union1d(always, [eos]).astype(np.int32), best)


def _binary(name: str, content: bytes, vocabulary: Vocabulary) -> tuple[int, list[Ids]]:
    """Return how many tokens everybody gets, and the translations of each source token."""
    if len(content) < _HEADER.size:
        raise ReadingError([f"{name} ends within its header"])
    _, checksum, first, _, offset_count, count = _HEADER.unpack_from(content)
    expected = _HEADER.size + 8 * offset_count + 4 * count
    if len(content) != expected:
        raise ReadingError([f"{name} has {len(content)} bytes, its header says {expected}"])
    if checksum != _checksum(content[16:]):
        raise ReadingError([f"{name} is damaged: its checksum is wrong"])
    offsets = np.frombuffer(content, "<u8", offset_count, _HEADER.size)
    targets = np.frombuffer(content, "<u4", count, _HEADER.size + 8 * offset_count).astype(np.int64)
    sizes = np.diff(offsets.astype(np.int64))
    reasons = []
    if not 0 < offset_count <= vocabulary.source_size + 1:
        reasons.append(f"{name} is of {offset_count - 1} source tokens, the vocabulary has {vocabulary.source_size}")
    elif offsets[0] != 0 or offsets[-1] != count or (offsets > count).any() or (sizes < 0).any():
        reasons.append(f"the offsets in {name} are not in order")
    elif sizes.max(initial=0) > _MOST_TRANSLATIONS:
        reasons.append(f"{name} has {sizes.max()} translations of one token, at most {_MOST_TRANSLATIONS} are read")
    if targets.max(initial=0) >= vocabulary.target_size:
        reasons.append(f"{name} has target token {targets.max()}, the vocabulary ends at {vocabulary.target_size - 1}")
    if reasons:
        raise ReadingError(reasons)
    return first, np.split(targets, offsets[1:-1].astype(np.int64))


def _checksum(content: bytes) -> int:
    """Combine words of eight bytes, as Boost's ``hash_combine``; what is left over at the end is not counted."""
    value = 0
    for word in np.frombuffer(content, "<u8", len(content) // 8).tolist():
        value ^= (word + _GOLDEN + (value << 6) + (value >> 2)) & _ALL
    return value


def _text(
    name: str,
    content: bytes,
    vocabulary: Vocabulary,
    spellings: tuple[Spelling, Spelling],
    most: int,
    threshold: float,
) -> list[Ids]:
    """Return the best translations of each source token, of equal ones those with the greater ids, as Marian does."""
    likely: dict[int, dict[int, float]] = defaultdict(dict)
    try:
        for line in _lines(name, content):
            target, source, probability = (part.decode() for part in line.split())
            if "NULL" in (source, target):
                continue
            best, token = likely[spellings[0](source)], spellings[1](target)
            best[token] = max(float(probability), best.get(token, 0.0))
    except ValueError as error:
        raise ReadingError([f"{name} has a line that is not a target token, a source token and a number"]) from error
    lists = [np.empty(0, np.int64) for _ in range(vocabulary.source_size)]
    for source_id, translations in likely.items():
        ranked = sorted(((p, token) for token, p in translations.items() if p >= threshold), reverse=True)
        lists[source_id] = np.array([token for _, token in ranked[: min(most, _MOST_TRANSLATIONS)]], dtype=np.int64)
    return lists


def _lines(name: str, content: bytes) -> list[bytes]:
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(_LARGEST + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ReadingError([f"{name} is damaged ({error})"]) from error
        if len(content) > _LARGEST:
            raise ReadingError([f"{name} has more than {_LARGEST} bytes when unpacked"])
    return content.removesuffix(b"\n").split(b"\n")  # and each at ASCII's white space: tokens may have other
