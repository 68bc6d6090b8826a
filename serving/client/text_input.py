"""Lines of text from a stream of bytes whose encoding may have to be detected."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}

_UNDECODED = re.compile("[\udc80-\udcff]")  # what the error handler surrogateescape makes of bytes


class EncodingError(ValueError):
    """The bytes are not text in the encoding that they were taken for."""


def read_lines(stream: BinaryIO, encoding: str | None = None) -> Iterator[str | None]:
    r"""Yield the lines of a stream as they arrive, without their ends ("\n" or "\r\n").

    Args:
        stream: To be read to its end.
        encoding: Any of Python's codecs. Without one, a byte order mark decides, and without a mark the text is UTF-8.

    Yields:
        A line, or None for one that is not valid UTF-8 where that is the encoding; the lines after it are not affected.

    Raises:
        EncodingError: The text contains NUL, as UTF-16 does when it is read as UTF-8, or it is not in ``encoding``.
    """
    first = stream.readline()
    found = next((name for mark, name in _BYTE_ORDER_MARKS.items() if first.startswith(mark)), "utf-8")
    name = codecs.lookup(encoding or found).name
    chunks = chain([first] if first else [], stream)
    lines = _independent_lines(chunks) if name in {"utf-8", "utf-8-sig"} else _decoded_lines(chunks, name)
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise EncodingError(
                f"line {number} contains NUL, so the text is not {name.upper()}; name its encoding, such as "
                "--encoding utf-16-le"
            )
        yield None if _UNDECODED.search(line) else line.removesuffix("\n").removesuffix("\r")


def _independent_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    for number, chunk in enumerate(chunks):
        yield chunk.decode("utf-8" if number else "utf-8-sig", errors="surrogateescape")


def _decoded_lines(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    decoder, rest = codecs.getincrementaldecoder(encoding)(), ""
    try:
        for chunk in chunks:
            *lines, rest = (rest + decoder.decode(chunk)).split("\n")
            yield from lines
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise EncodingError(f"the text is not {encoding.upper()} ({error.reason}); name its encoding") from error
    if rest:
        yield rest
