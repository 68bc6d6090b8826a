"""What HTML and XML are read as: a balanced sequence of tags and text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from html import escape

_PIECE = re.compile(r"\r\n?|[<>&]|[^\r<>&]+")


class MalformedMarkup(ValueError):
    """The markup is not well-formed; the message says why, and where."""


class TokenKind(Enum):
    """The kind of a token."""

    TEXT = "text"
    START = "start"
    END = "end"
    VOID = "void"  # a tag without content, a comment, a declaration
    BREAK = "break"  # the same, and text before it does not go on after it


@dataclass(eq=False)
class Element:
    """An element.

    Attributes:
        parent: The element around it.
        block: Whether its text is read by itself; otherwise it is part of the text around it.
        translated: Whether its text is translated.
        hidden: Whether it stands for no word, such as a script.
        preserved: Whether its white space means what it says.
    """

    parent: Element | None = None
    block: bool = True
    translated: bool = True
    hidden: bool = False
    preserved: bool = False

    @property
    def inline(self) -> bool:
        """Whether it is one piece of the text around it."""
        return not self.block and self.parent is not None and self.parent.translated


@dataclass(frozen=True)
class MarkupToken:
    """A token, as it is written.

    Attributes:
        kind: Its kind.
        raw: As it is written; what has to be repaired is.
        element: Of a tag the element that begins or ends, else the one it is in.
        text: What text says, its character references resolved.
        start: Where it begins in the markup as given.
    """

    kind: TokenKind
    raw: str
    element: Element
    start: int
    text: str = ""


def text_tokens(text: str, element: Element, start: int, *, special: str) -> Iterator[MarkupToken]:
    """Yield what of a text stands for itself, and each character by itself that does not.

    Args:
        text: As it is written.
        element: It is in this one.
        start: Where it begins in the markup as given.
        special: Characters to write as references.
    """
    for piece in _PIECE.finditer(text):
        written = escape(piece[0], quote=False) if piece[0] in special else piece[0]
        read = "\n" if piece[0][0] == "\r" else piece[0]
        yield MarkupToken(TokenKind.TEXT, written, element, start + piece.start(), read)
