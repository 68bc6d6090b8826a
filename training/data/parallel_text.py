"""Read parallel text: two line files (plain or .gz) with an optional label file, or one TSV file."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

from training.errors import DataError


@dataclass(frozen=True)
class Pair:
    """One aligned sentence pair; `label` names its source corpus, or is empty."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class CorpusFiles:
    """Where a parallel corpus lies: either `source` and `target` (and perhaps `labels`), or `tsv`.

    Attributes:
        source: One sentence a line.
        target: Its translations, line by line.
        labels: One label a line.
        tsv: Columns source, target and, if wanted, label; a tab between them.
    """

    source: Path | None = None
    target: Path | None = None
    labels: Path | None = None
    tsv: Path | None = None

    def __post_init__(self) -> None:
        """Check that exactly one form is given.

        Raises:
            DataError: If neither or both are.
        """
        lines = self.source is not None and self.target is not None
        if lines == (self.tsv is not None):
            raise DataError("A corpus needs either both 'source' and 'target', or 'tsv'; give exactly one of the two.")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the corpus."""
        return tuple(p for p in (self.source, self.target, self.labels, self.tsv) if p is not None)


def open_text(path: Path) -> TextIO:
    r"""Open a UTF-8 text file, through gzip if its name ends in .gz; only "\n" ends a line.

    Raises:
        DataError: If the file does not exist.
    """
    if not path.is_file():
        raise DataError(f"The corpus file {path} does not exist; check the path and its environment variables.")
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")


def _read_tsv(path: Path) -> Iterator[Pair]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.rstrip("\r\n").split("\t")
            if not 2 <= len(fields) <= 3:
                raise DataError(f"{path}, line {number}: {len(fields)} columns, but a TSV corpus has 2 or 3.")
            yield Pair(*fields)


def _read_lines(files: CorpusFiles) -> Iterator[Pair]:
    with ExitStack() as stack:
        columns = [stack.enter_context(open_text(p)) for p in files.paths]
        for number, row in enumerate(zip_longest(*columns)):
            if None in row:
                names = ", ".join(str(p) for p in files.paths)
                raise DataError(f"{names} differ in length: one ends after {number} lines; align them.")
            yield Pair(*(field.rstrip("\r\n") for field in row))


def read_pairs(files: CorpusFiles) -> Iterator[Pair]:
    """Stream a corpus pair by pair.

    Raises:
        DataError: If a file is missing, is not UTF-8, or the files differ in their number of lines or columns.
    """
    try:
        yield from _read_tsv(files.tsv) if files.tsv is not None else _read_lines(files)
    except UnicodeDecodeError as error:
        names = ", ".join(str(p) for p in files.paths)
        raise DataError(f"One of {names} is not UTF-8 ({error.reason}); convert it first.") from error
