"""Plain text: each line by itself."""

from __future__ import annotations

import re
from functools import partial

from serving.client.files.document import TextDocument
from serving.client.files.encoding import replaced

_LINE = re.compile(r"[^\n]*\S[^\n]*")


def read(text: str) -> TextDocument:
    """Read the lines that are not blank."""
    places = [line.span() for line in _LINE.finditer(text)]
    return TextDocument([text[start:end] for start, end in places], partial(replaced, text, places))
