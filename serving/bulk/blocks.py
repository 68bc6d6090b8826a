"""Blocks of lines of a text file, which workers read by themselves."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from serving.errors import StartupError


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a file.

    Attributes:
        number: From 0.
        first_line: Number of its first line in the file, from 1.
        lines: Their number.
        offset: Bytes of the file before it.
        size: Its bytes.
    """

    number: int
    first_line: int
    lines: int
    offset: int
    size: int


def index(path: Path, lines_per_block: int) -> tuple[list[Block], str]:
    """Find the blocks of a file, and the SHA-256 of the file, in one pass.

    Lines end with a line feed and with nothing else; the last one may lack it.

    Raises:
        OSError: The file cannot be read.
        StartupError: The file contains NUL: it is not UTF-8, most likely UTF-16.
    """
    digest = hashlib.sha256()
    blocks: list[Block] = []
    with path.open("rb") as file:
        for lines, size in _runs(_checked(file, digest, path), lines_per_block):
            last = blocks[-1] if blocks else Block(-1, 1, 0, 0, 0)
            blocks.append(
                Block(last.number + 1, last.first_line + last.lines, lines, offset=last.offset + last.size, size=size)
            )
    return blocks, digest.hexdigest()


def read(path: Path, block: Block) -> list[str | None]:
    """Read the lines of a block without their ends; None for one that is not UTF-8."""
    with path.open("rb") as file:
        file.seek(block.offset)
        data = file.read(block.size)
    if block.offset == 0:
        data = data.removeprefix(codecs.BOM_UTF8)
    return [_decoded(line.removesuffix(b"\r")) for line in data.removesuffix(b"\n").split(b"\n")]


def _checked(lines: Iterator[bytes], digest: hashlib._Hash, path: Path) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if b"\0" in line:
            raise StartupError(
                f"{path}, line {number} contains NUL, so the file is not UTF-8; convert it first, for example with "
                "iconv -f UTF-16 -t UTF-8"
            )
        digest.update(line)
        yield line


def _runs(lines: Iterator[bytes], length: int) -> Iterator[tuple[int, int]]:
    """Count lines and bytes of each run of ``length`` lines."""
    count = size = 0
    for line in lines:
        count, size = count + 1, size + len(line)
        if count == length:
            yield count, size
            count = size = 0
    if count:
        yield count, size


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None
