"""A file as texts to translate, and the file again from their translations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.messages import MimeType


class FileError(ValueError):
    """The file is not what its name says; the message says why."""


@dataclass(frozen=True)
class Document:
    """What of a file is to be translated.

    Attributes:
        texts: The texts, in order.
        rebuild: Returns the file with a translation in the place of each text.
        mime_type: Type of the texts.
        left: Texts that would be translated if the reader knew how to put their translations into the file.
    """

    texts: Sequence[str]
    rebuild: Callable[[Sequence[str]], bytes]
    mime_type: MimeType = MimeType.PLAIN
    left: Sequence[str] = ()


@dataclass(frozen=True)
class TextDocument:
    """The same of a file of text, decoded."""

    texts: Sequence[str]
    rebuild: Callable[[Sequence[str]], str]
    mime_type: MimeType = MimeType.PLAIN
    left: Sequence[str] = ()
