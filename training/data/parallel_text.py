"""Parallel text in files: two line files (plain or .gz) with an optional label file, or one TSV file."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from training.errors import DataError


@dataclass(frozen=True)
class Pair:
    """One aligned sentence pair; ``label`` names the corpus it comes from, or is empty."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class CorpusFiles:
    """A corpus in files: either ``source`` and ``target`` (and perhaps ``labels``), or ``tsv``.

    Attributes:
        source: One sentence per line.
        target: Its translations, line by line.
        labels: One label a line.
        tsv: Columns source, target and, if wanted, label; a tab between them.
        name: Label of every pair that has no other.
    """

    source: Path | None = None
    target: Path | None = None
    labels: Path | None = None
    tsv: Path | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check that exactly one form is given.

        Raises:
            DataError: If neither or both are.
        """
        lines = self.source is not None and self.target is not None
        if lines == (self.tsv is not None):
            raise DataError("a corpus needs either both 'source' and 'target', or 'tsv'; give exactly one of the two.")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files of the corpus."""
        return tuple(p for p in (self.source, self.target, self.labels, self.tsv) if p is not None)

    def identity(self) -> list[tuple[str, int, int]]:
        """Path, size and time of each file: what changes when the text does."""
        return [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in self.paths if p.is_file()]

    def pairs(self) -> Iterator[Pair]:
        """Stream the corpus.

        Raises:
            DataError: If a file is missing, empty or not UTF-8, or the files differ in their lines or columns.
        """
        return _read_tsv(self.tsv, self.name) if self.tsv is not None else _read_lines(self)


def read_lines(path: Path) -> Iterator[str]:
    r"""Stream the lines of a text file, through gzip if its name ends in .gz; only "\n" ends a line.

    The text is UTF-8, or UTF-16 or UTF-32 if it begins with a byte order mark.

    Raises:
        DataError: If the file is missing or empty, or a line is not in that encoding or contains NUL.
    """
    if not path.is_file():
        raise DataError(f"the corpus file {path} does not exist; check the path and its environment variables.")
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
            encoding = _encoding(lines.peek(4))
            # UTF-8 is decoded line by line, so that an error can say where it is.
            wide = io.TextIOWrapper(lines, encoding, newline="\n") if encoding != "utf-8" else None
            for line in wide or lines:
                number += 1
                if ("\0" if isinstance(line, str) else b"\0") in line:  # type: ignore[operator]
                    raise DataError(
                        f"{path}, line {number}: the text contains NUL, so it is not {encoding.upper()}; "
                        "convert the file to UTF-8 first, for example with iconv -f UTF-16 -t UTF-8."
                    )
                text = line if isinstance(line, str) else line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        place = f"{path}, line {number}, byte {error.start + 1}" if error.encoding == "utf-8" else str(path)
        raise DataError(f"{place}: this is not {error.encoding.upper()}; convert the file to UTF-8 first.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}, after line {number}: the gzip data is damaged ({error}); copy it again.") from error
    if number == 0:
        raise DataError(f"the corpus file {path} is empty; give a file with one sentence per line.")


def _encoding(start: bytes) -> str:
    """Name the encoding that a byte order mark announces; UTF-8 if there is none."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}  # first: one begins with a mark of UTF-16
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    return next((name for mark, name in marks.items() if start.startswith(mark)), "utf-8")


def _read_tsv(path: Path, name: str) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if not 2 <= len(fields) <= 3:
            raise DataError(f"{path}, line {number}: {len(fields)} columns, but a TSV corpus has 2 or 3.")
        yield Pair(fields[0], fields[1], fields[2] if len(fields) == 3 and fields[2] else name)


def _read_lines(files: CorpusFiles) -> Iterator[Pair]:
    columns = [read_lines(path) for path in files.paths]
    for number, row in enumerate(zip_longest(*columns), start=1):
        if None in row:
            named = list(zip(files.paths, row, strict=True))
            ended, longer = (next(path for path, text in named if (text is None) is end) for end in (True, False))
            raise DataError(
                f"{ended}, line {number}: the file ends after {number - 1} lines, but {longer} goes on; "
                "line N of one side must translate line N of the other."
            )
        yield Pair(row[0], row[1], row[2] if len(row) == 3 and row[2] else files.name)
