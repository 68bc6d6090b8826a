"""Choice of how a text is read, by its MIME type."""

from __future__ import annotations

from serving.messages import MimeType
from serving.text.markup.document import Markup
from serving.text.markup.html_tokens import html_tokens
from serving.text.markup.xml_tokens import xml_tokens

_READERS = {MimeType.HTML: html_tokens, MimeType.XML: xml_tokens}


def read_markup(text: str, mime_type: MimeType) -> Markup | None:
    """Read a text; None if it is plain.

    Raises:
        MalformedMarkup: It is XML and not well-formed.
    """
    reader = _READERS.get(mime_type)
    return Markup(reader(text)) if reader else None
