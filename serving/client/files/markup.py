"""HTML and XML: the whole file is one text, which the server reads."""

from __future__ import annotations

from serving.client.files.document import TextDocument
from serving.messages import MimeType


def read_html(text: str) -> TextDocument:
    """Read a page."""
    return TextDocument([text], "".join, MimeType.HTML)


def read_xml(text: str) -> TextDocument:
    """Read an XML document."""
    return TextDocument([text], "".join, MimeType.XML)
