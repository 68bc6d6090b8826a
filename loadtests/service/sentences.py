"""Texts for load and quality tests."""

from __future__ import annotations

import gzip
from pathlib import Path

BUNDLED = Path(__file__).with_name("sentences.txt")
MAX_WORDS = 40  # longer lines of the corpora are mostly lists and clauses that the shipped model was not trained for


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, plain or .gz."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8").removesuffix("\n").split("\n")


def sentences(file: Path | None, data: Path | None) -> list[str]:
    """Return English sentences of 1 to ``MAX_WORDS`` words: of a file, of the corpora in ``data``, or the bundled ones.

    Raises:
        ValueError: The file has no such sentence.
    """
    path = file or (data / "enfr" / "test.en.gz" if data else BUNDLED)
    found = [line for line in read_lines(path) if 0 < len(line.split()) <= MAX_WORDS]
    if not found:
        raise ValueError(f"{path} has no sentence of 1 to {MAX_WORDS} words; give a file with one a line")
    return found
