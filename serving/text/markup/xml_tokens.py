"""XML, read with expat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from serving.text.markup.tokens import Element, MalformedMarkup, MarkupToken, TokenKind, text_tokens

_ROOT, _END = b"<_>", b"</_>"  # around a fragment, which need not have one element around all
_DEEPEST = 50  # elements within each other that are part of the text around them; beyond, each is read by itself


@dataclass(frozen=True)
class _Event:
    kind: TokenKind
    begin: int  # byte
    text: str = ""
    attributes: tuple[str, ...] = ()  # name, value, name, value
    cdata: bool = False


def xml_tokens(markup: str) -> list[MarkupToken]:
    """Read an XML document, or a fragment of one.

    An element is part of the text around it if there is any, directly in its parent or further out. ``translate="no"``
    (ITS 2.0) and ``xml:space="preserve"`` hold for an element and what is in it.

    Raises:
        MalformedMarkup: It is not well-formed, or declares entities, of which a few lines can stand for gigabytes.
    """
    data = markup.encode(errors="surrogatepass")
    document = markup.startswith(("<?xml", "<!DOCTYPE"))
    whole = data if document else _ROOT + data + _END
    shift = 0 if document else len(_ROOT)
    events = _events(whole, shift)
    ends = [event.begin for event in events[1:]] + [len(whole)]
    tokens = list(_tokens(whole, events, ends, shift))
    if not document:
        tokens = tokens[1:-1]
    _find_inline(tokens)
    return tokens


def _events(data: bytes, shift: int) -> list[_Event]:
    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    events: list[_Event] = []
    inside = False  # a CDATA section

    def note(kind: TokenKind) -> Callable[..., None]:
        return lambda *_: events.append(_Event(kind, parser.CurrentByteIndex))

    def start(_: str, attributes: list[str]) -> None:
        events.append(_Event(TokenKind.START, parser.CurrentByteIndex, attributes=tuple(attributes)))

    def text(data: str) -> None:
        events.append(_Event(TokenKind.TEXT, parser.CurrentByteIndex, data, cdata=inside))

    def cdata() -> None:
        nonlocal inside
        events.append(_Event(TokenKind.TEXT, parser.CurrentByteIndex, cdata=True))
        inside = not inside

    def refuse(*_: Any) -> None:
        raise MalformedMarkup("declares an entity, which is not allowed; write out what it stands for")

    parser.StartElementHandler = start
    parser.EndElementHandler = note(TokenKind.END)
    parser.CharacterDataHandler = text
    parser.StartCdataSectionHandler = parser.EndCdataSectionHandler = cdata
    parser.CommentHandler = parser.ProcessingInstructionHandler = parser.SkippedEntityHandler = note(TokenKind.VOID)
    parser.DefaultHandler = note(TokenKind.BREAK)  # around the outermost element
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        column = error.offset - (shift if error.lineno == 1 else 0)
        reason = expat.ErrorString(error.code)
        raise MalformedMarkup(f"is not well-formed XML: {reason} at line {error.lineno}, column {column}") from None
    return events


def _tokens(data: bytes, events: list[_Event], ends: list[int], shift: int) -> Iterator[MarkupToken]:
    element, start = Element(), -shift
    for event, end in zip(events, ends, strict=True):
        raw = data[event.begin : end].decode(errors="surrogatepass")
        if event.kind is TokenKind.START:
            given = dict(zip(event.attributes[::2], event.attributes[1::2], strict=True))
            translate = given.get("translate", given.get("its:translate"))
            space = given.get("xml:space")
            element = Element(
                element,
                translated=element.translated if translate is None else translate != "no",
                preserved=element.preserved if space is None else space == "preserve",
            )
        if event.cdata and element.translated:
            # A translation may have tags in it, so it is no CDATA section.
            yield from text_tokens(event.text, element, start, special="<>&")
        else:
            yield MarkupToken(event.kind, raw, element, start, event.text)
        if event.kind is TokenKind.END and element.parent:
            element = element.parent
        start += len(raw)


def _find_inline(tokens: list[MarkupToken]) -> None:
    mixed = {token.element for token in tokens if token.kind is TokenKind.TEXT and token.text.strip()}
    depth: dict[Element | None, int] = {}
    for token in tokens:
        element, parent = token.element, token.element.parent
        if token.kind is TokenKind.START and (parent in mixed or (parent and not parent.block)):
            depth[element] = depth.get(parent, 0) + 1
            element.block = depth[element] > _DEEPEST
