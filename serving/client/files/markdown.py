"""Markdown: paragraphs, headings, items and cells; links, emphasis and code move with the words of a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from serving.client.files.document import TextDocument
from serving.client.files.encoding import replaced
from serving.messages import MimeType

if TYPE_CHECKING:
    from markdown_it.token import Token


def read(text: str) -> TextDocument:
    """Read what is not code, HTML or front matter."""
    from markdown_it import MarkdownIt

    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    blocks: list[_Block] = []
    left: list[str] = []
    end = _front_matter(text)
    for token in (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join").parse(_blanked(text, end))
    ):
        if token.type == "inline" and token.map and token.content.strip():
            begin = max(end, starts[token.map[0]])
            place = _find(text, token.content, begin)
            if place is None:  # the parser has changed what is written, such as a bar within a cell
                left.append(token.content)
                continue
            blocks.append(_Block(place, token.children or []))
            end = place[1]
    places = [block.place for block in blocks]

    def rebuild(translations: Sequence[str]) -> str:
        written = [block.written(answer) for block, answer in zip(blocks, translations, strict=True)]
        return replaced(text, places, written)

    return TextDocument([block.markup for block in blocks], rebuild, MimeType.HTML, left)


class _Block:
    """The text of one block as HTML, in which element ``i`` stands for what is written before and after it."""

    def __init__(self, place: tuple[int, int], children: Sequence[Token]) -> None:
        self.place = place
        self._written: list[tuple[str, str]] = []
        self._opened: list[int] = []
        self.markup = "".join(self._marked(child) for child in children)

    def written(self, answer: str) -> str:
        """Return a translation in Markdown."""
        return "".join(self._unmarked(ElementTree.fromstring(f"<_>{answer}</_>")))

    def _marked(self, token: Token) -> str:
        kind = token.type
        if kind == "text":
            return escape(token.content, quote=False)
        if kind == "softbreak":
            return " "
        if kind == "link_open" and token.markup == "autolink":
            return self._open("<", ">")
        if kind == "link_open":
            return self._open("[", f"]({_target(token, 'href')})")
        if kind.endswith("_open"):
            return self._open(token.markup, token.markup)
        if kind.endswith("_close"):
            self._opened.pop()
            return "</span>"
        return self._kept(token)

    def _kept(self, token: Token) -> str:
        kept = {
            "text_special": token.markup,
            "code_inline": f"{token.markup}{token.content}{token.markup}",
            "hardbreak": "\\\n",
            "image": f"![{token.content}]({_target(token, 'src')})",
        }.get(token.type, token.content)
        self._written.append((kept, ""))
        number = len(self._written) - 1
        return f'<code i="{number}">x</code>' if token.type == "code_inline" else f'<img i="{number}"/>'

    def _open(self, before: str, after: str) -> str:
        self._opened.append(len(self._written))
        self._written.append((before, after))
        return f'<span i="{self._opened[-1]}">'

    def _unmarked(self, element: ElementTree.Element) -> Iterator[str]:
        before, after = self._written[int(element.get("i", 0))] if element.get("i") else ("", "")
        yield before
        if element.tag != "code":
            yield element.text or ""
            for child in element:
                yield from self._unmarked(child)
                yield child.tail or ""
        yield after


def _target(token: Token, name: str) -> str:
    address, title = str(token.attrGet(name) or ""), token.attrGet("title")
    address = f"<{address}>" if " " in address else address
    return f'{address} "{title}"' if title else address


def _front_matter(text: str) -> int:
    """Return where the metadata at the beginning end, which are between lines of three dashes."""
    end = text.find("\n---\n", 3)
    return end + 5 if text.startswith("---\n") and end > 0 else 0


def _blanked(text: str, end: int) -> str:
    return "".join("\n" if character == "\n" else " " for character in text[:end]) + text[end:]


def _find(text: str, content: str, begin: int) -> tuple[int, int] | None:
    """Return where the lines of a block are; what begins its lines, such as ``> ``, is not in its content."""
    first, *rest = content.split("\n")
    start = text.find(first, begin)
    if start < 0:
        return None
    end = start + len(first)
    for line in rest:
        found = text.find(line, end)
        if found < 0:
            return None
        end = found + len(line)
    return start, end
