"""JSON: strings that are values; keys, numbers and white space stay as they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from serving.client.files.document import FileError, TextDocument
from serving.client.files.encoding import replaced

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?', re.DOTALL)


def read(text: str) -> TextDocument:
    """Read the values.

    Raises:
        FileError: It is not JSON.
    """
    try:
        json.loads(text)
    except ValueError as error:
        raise FileError(f"is not JSON: {error}") from error
    places = [string.span() for string in _STRING.finditer(text) if not string["key"]]
    escaped = text.isascii() and "\\u" in text

    def rebuild(translations: Sequence[str]) -> str:
        return replaced(text, places, [json.dumps(one, ensure_ascii=escaped) for one in translations])

    return TextDocument([json.loads(text[start:end]) for start, end in places], rebuild)
