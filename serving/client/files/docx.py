"""Word documents: paragraphs of the body, tables, headers, footers and notes; formats move with their words.

A document is an archive of XML, of which only the text changes: all else stays as it is, byte for byte.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from html import escape
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

from serving.client.files.document import Document, FileError
from serving.messages import MimeType

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PART = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes|comments)\.xml")
_FIELD, _GONE = f"{_WORD}fldSimple", f"{_WORD}moveFrom"  # what Word computes; what a revision has moved away
_SPACE = "{http://www.w3.org/XML/1998/namespace}space"


def read(data: bytes) -> Document:
    """Read the paragraphs.

    Raises:
        FileError: It is no such archive.
    """
    from lxml import etree

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise FileError(f"is not a Word document: {error}") from error
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    trees = {info.filename: etree.fromstring(xml, parser) for info, xml in files if _PART.fullmatch(info.filename)}
    found = [_Paragraph(element) for tree in trees.values() for element in tree.iter(f"{_WORD}p")]
    paragraphs = [paragraph for paragraph in found if paragraph.has_text]

    def rebuild(translations: Sequence[str]) -> bytes:
        for paragraph, translation in zip(paragraphs, translations, strict=True):
            paragraph.write(translation)
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for info, old in files:
                tree = trees.get(info.filename)
                new = (
                    old
                    if tree is None
                    else etree.tostring(tree, encoding="UTF-8", xml_declaration=True, standalone=True)
                )
                archive.writestr(info, new)
        return written.getvalue()

    left = [text for paragraph in found for text in paragraph.left]
    return Document([paragraph.markup for paragraph in paragraphs], rebuild, MimeType.HTML, left)


class _Paragraph:
    """A paragraph as HTML, in which element ``i`` stands for a run of one format, or for what is no text."""

    def __init__(self, element: Any) -> None:
        self._element = element
        for run in [run for run in element.iter(f"{_WORD}r") if _paragraph_of(run) is element]:
            _split(run)
        self._pieces = [child for child in element if child.tag != f"{_WORD}pPr"]
        self._texts = [self._text(piece) for piece in self._pieces]

    @property
    def has_text(self) -> bool:
        """Whether there is something to translate."""
        return any(text and text.strip() for text in self._texts)

    @property
    def left(self) -> list[str]:
        """Text within what is no text as a whole, such as a field."""
        pieces = [piece for piece, text in zip(self._pieces, self._texts, strict=True) if text is None]
        inside = (
            "".join(text.text or "" for text in piece.iter(f"{_WORD}t") if _paragraph_of(text) is self._element)
            for piece in pieces
            if piece.tag != _GONE
        )
        return [text for text in inside if any(map(str.isalpha, text))]

    @property
    def markup(self) -> str:
        """The text of the paragraph."""
        return "".join(
            f'<img i="{number}"/>' if text is None else f'<span i="{number}">{escape(text, quote=False)}</span>'
            for number, text in enumerate(self._texts)
        )

    def write(self, answer: str) -> None:
        """Put a translation in the place of the text."""
        root = ElementTree.fromstring(f"<_>{answer}</_>")
        between, last = root.text or "", None
        for child in root:
            number = int(child.get("i", 0))
            piece = self._pieces[number]
            self._element.append(piece)  # all that is not properties, in the order of the translation
            if self._texts[number] is not None:
                # What is between two runs goes on in the format of the first.
                self._add(last, between)
                self._set(piece, ("" if last is not None else between) + "".join(child.itertext()))
                between, last = "", piece
            between += child.tail or ""
        self._add(last, between)

    def _add(self, piece: Any, text: str) -> None:
        if piece is not None and text:
            self._set(piece, "".join(element.text or "" for element in piece.iter(f"{_WORD}t")) + text)

    @staticmethod
    def _text(piece: Any) -> str | None:
        """Return the text of a run, or of what has runs, such as a link or an insertion; None of what is no text."""
        if piece.tag in {_FIELD, _GONE}:
            return None
        inside = {element.tag for run in piece.iter(f"{_WORD}r") for element in run} - {f"{_WORD}rPr"}
        return "".join(text.text or "" for text in piece.iter(f"{_WORD}t")) if inside == {f"{_WORD}t"} else None

    @staticmethod
    def _set(piece: Any, text: str) -> None:
        first, *rest = piece.iter(f"{_WORD}t")
        first.text = text
        first.set(_SPACE, "preserve")
        for other in rest:
            other.text = ""


def _paragraph_of(element: Any) -> Any:
    """Return the innermost paragraph that an element is in; a text box has its own."""
    return next(element.iterancestors(f"{_WORD}p"))


def _split(run: Any) -> None:
    """Split a run at what is no text, such as tabs and line breaks, into runs of the same format."""
    properties = [child for child in run if child.tag == f"{_WORD}rPr"]
    content = [child for child in run if child.tag != f"{_WORD}rPr"]
    groups = [list(group) for _, group in groupby(content, key=lambda child: child.tag == f"{_WORD}t")]
    last = run
    for group in groups[1:]:
        following = run.makeelement(run.tag, run.attrib)
        following.extend(deepcopy(properties))
        following.extend(group)
        last.addnext(following)
        last = following
