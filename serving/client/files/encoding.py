"""Files of text in any Unicode encoding, which come back in the same."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from serving.client.files.document import Document, FileError, TextDocument

_MARKS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def of_text(read: Callable[[str], TextDocument], *, lines: bool = False) -> Callable[[bytes], Document]:
    r"""Return the reader of files whose text ``read`` reads.

    Args:
        read: Reads the text of a file.
        lines: Whether it knows "\n" only; "\r\n" becomes that, and comes back.
    """

    def read_bytes(data: bytes) -> Document:
        mark, encoding = next((entry for entry in _MARKS if data.startswith(entry[0])), (b"", "utf-8"))
        try:
            text = data[len(mark) :].decode(encoding)
        except UnicodeDecodeError as error:
            raise FileError(f"is not {encoding.upper()} ({error.reason}); convert it to UTF-8") from error
        windows = lines and "\r\n" in text
        document = read(text.replace("\r\n", "\n") if windows else text)

        def rebuild(translations: Sequence[str]) -> bytes:
            rebuilt = document.rebuild(translations)
            return mark + (rebuilt.replace("\n", "\r\n") if windows else rebuilt).encode(encoding)

        return Document(document.texts, rebuild, document.mime_type, document.left)

    return read_bytes


def replaced(text: str, places: Sequence[tuple[int, int]], translations: Sequence[str]) -> str:
    """Return a text with translations in the places start .. end, which are in order."""
    pieces, position = [], 0
    for (start, end), translation in zip(places, translations, strict=True):
        pieces += [text[position:start], translation]
        position = end
    return "".join([*pieces, text[position:]])
