"""The formats of files, by the ends of their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.client.files import docx, gettext_po, json_values, markdown, markup, plain_text, subtitles, xliff
from serving.client.files.document import Document
from serving.client.files.encoding import of_text

FORMATS: dict[str, Callable[[bytes], Document]] = {
    ".txt": of_text(plain_text.read),
    ".md": of_text(markdown.read, lines=True),
    ".markdown": of_text(markdown.read, lines=True),
    ".html": of_text(markup.read_html),
    ".htm": of_text(markup.read_html),
    ".xml": of_text(markup.read_xml),
    ".srt": of_text(subtitles.read_srt, lines=True),
    ".vtt": of_text(subtitles.read_vtt, lines=True),
    ".po": of_text(gettext_po.read, lines=True),
    ".pot": of_text(gettext_po.read, lines=True),
    ".xliff": xliff.read,
    ".xlf": xliff.read,
    ".json": of_text(json_values.read),
    ".docx": docx.read,
}


def is_file(name: str) -> bool:
    """Return whether a name is that of a file that exists and has a known format."""
    path = Path(name)
    return path.suffix.lower() in FORMATS and path.is_file()
