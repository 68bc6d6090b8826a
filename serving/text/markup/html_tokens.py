"""HTML, read with a tokenizer of the WHATWG standard and balanced: every element that begins also ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate

from turbohtml import Token as Lexeme
from turbohtml import TokenType, tokenize

from serving.text.markup.tokens import Element, MarkupToken, TokenKind, text_tokens


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


_VOID = _names("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr")
_BLOCK = _names(
    "address article aside blockquote body caption center col colgroup datalist dd details dialog dir div dl dt "
    "fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li link main "
    "menu meta nav ol optgroup option p pre search section summary table tbody td textarea tfoot th thead title tr ul "
    "br"
)
_TABLE = _names("table caption colgroup thead tbody tfoot tr td th")
_KEPT = _names("code kbd math plaintext samp svg tt var xmp")
_HIDDEN = _names("iframe noembed noframes noscript script style template")
_PRESERVED = _names("pre textarea listing")
_RAW = _names("iframe noembed noframes noscript plaintext script style xmp")  # their text has no references
# The standard's optional tags: what begins ends these, up to the nearest of those.
_LIST, _ROWS, _CELLS = _names("ul ol menu dir"), _names("thead tbody tfoot"), _names("td th")
_PARAGRAPH_ENDS = _BLOCK - _TABLE - _names(
    "body br col datalist head html legend link meta optgroup option textarea title"
) | {"table"}
_ENDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    **dict.fromkeys(_PARAGRAPH_ENDS, (_names("p"), _names("button td th caption object"))),
    "li": (_names("li"), _LIST),
    "dt": (_names("dt dd"), _names("dl")),
    "dd": (_names("dt dd"), _names("dl")),
    "option": (_names("option"), _names("select datalist optgroup")),
    "optgroup": (_names("option optgroup"), _names("select")),
    "rb": (_names("rb rt rtc rp"), _names("ruby")),
    "rt": (_names("rb rt rp"), _names("ruby rtc")),
    "rp": (_names("rb rt rp"), _names("ruby rtc")),
    **dict.fromkeys(_CELLS, (_CELLS, _names("tr table"))),
    "tr": (_CELLS | {"tr", "caption", "colgroup"}, _ROWS | {"table"}),
    **dict.fromkeys(_ROWS, (_CELLS | _ROWS | {"tr", "caption", "colgroup"}, _names("table"))),
    "body": (_names("head"), frozenset()),
}
_DEEPEST = 512  # elements within each other; as in browsers, those beyond follow each other
_DEEPEST_INLINE = 50  # elements within each other that are part of the text around them; beyond, each is read by itself
_NEW_LINE = re.compile(r"\r\n?")


def html_tokens(markup: str) -> list[MarkupToken]:
    """Read an HTML document, or a fragment of one, whatever it is.

    An end tag that ends nothing is left out; one that is missing is put where the standard has the element end, but for
    the formatting elements that it would open again: they end with the element that ends around them.
    """
    return list(_Balance().tokens(_lexemes(markup)))


def _lexemes(markup: str) -> Iterator[tuple[Lexeme, str, int]]:
    """Yield tokens with what is written in the markup, and where."""
    # The tokenizer reads all line ends as one character, and tells lines and columns.
    clean = _NEW_LINE.sub("\n", markup)
    places: Sequence[int] = range(len(markup) + 1)
    if len(clean) < len(markup):
        places = [*(end.start() for end in re.finditer(r"\r\n|[^\r]|\r", markup, re.DOTALL)), len(markup)]
    lines = [0, *accumulate(len(line) + 1 for line in clean.split("\n"))]
    for lexeme in tokenize(clean, resolve_references=False, capture_source=True):
        begin = lines[lexeme.line - 1] + lexeme.col
        source = (lexeme.data if lexeme.type is TokenType.TEXT else lexeme.source) or ""
        there = clean.startswith(source, begin)  # but for what the standard has ignored, such as </>
        raw = markup[places[begin] : places[begin + len(source)]] if there else source
        yield lexeme, raw, places[begin]


class _Balance:
    """Elements that have begun and not ended."""

    def __init__(self) -> None:
        self._open: list[tuple[str, Element]] = []
        self._root = Element()

    def tokens(self, lexemes: Iterator[tuple[Lexeme, str, int]]) -> Iterator[MarkupToken]:
        """Yield balanced tokens."""
        end, raw = 0, ""
        for lexeme, raw, start in lexemes:
            end = start + len(raw)
            if lexeme.type is TokenType.START_TAG:
                yield from self._start(lexeme, raw, start)
            elif lexeme.type is TokenType.END_TAG:
                yield from self._close(self._match(lexeme.tag or ""), raw, start)
            elif lexeme.type is TokenType.TEXT:
                literal = self._open and self._open[-1][0] in _RAW
                yield from text_tokens(raw, self._element, start, special="" if literal else "<&")
            elif lexeme.type is TokenType.CHARACTER_REFERENCE:
                yield MarkupToken(TokenKind.TEXT, raw, self._element, start, lexeme.data or "")
            else:
                kind = TokenKind.BREAK if lexeme.type is TokenType.DOCTYPE else TokenKind.VOID
                yield MarkupToken(kind, _closed(lexeme, raw), self._element, start)
        if self._open and self._open[-1][0] == "script" and "<!--" in raw:
            yield MarkupToken(TokenKind.TEXT, "-->", self._element, end, "-->")  # within which no end tag ends a script
        yield from self._close(0, "", end)

    @property
    def _element(self) -> Element:
        return self._open[-1][1] if self._open else self._root

    def _start(self, tag: Lexeme, raw: str, start: int) -> Iterator[MarkupToken]:
        name = tag.tag or ""
        ended, borders = _ENDS.get(name, (frozenset(), frozenset()))
        if ended and (first := self._first(ended, borders)) is not None:
            yield from self._close(first, "", start)
        if name in _VOID:
            yield MarkupToken(TokenKind.BREAK if name in _BLOCK else TokenKind.VOID, raw, self._element, start)
            return
        if len(self._open) == _DEEPEST:
            yield from self._close(_DEEPEST - 1, "", start)
        attributes = dict(tag.attrs or ())
        translate = attributes.get("translate")
        kept = name in _KEPT or name in _HIDDEN or "notranslate" in attributes.get("class", "").split()
        element = Element(
            self._element,
            block=name in _BLOCK or len(self._open) > _DEEPEST_INLINE,
            translated=not kept and (self._element.translated if translate is None else translate.lower() != "no"),
            hidden=name in _HIDDEN,
            preserved=self._element.preserved or name in _PRESERVED,
        )
        yield MarkupToken(TokenKind.START, raw, element, start)
        if tag.self_closing:
            yield MarkupToken(TokenKind.END, "", element, start + len(raw))
        else:
            self._open.append((name, element))

    def _first(self, names: frozenset[str], borders: frozenset[str]) -> int | None:
        """Return the outermost open element of these names within the innermost border."""
        first = None
        for index in range(len(self._open) - 1, -1, -1):
            name = self._open[index][0]
            if name in borders:
                break
            if name in names:
                first = index
        return first

    def _match(self, name: str) -> int:
        """Return the open element that an end tag ends, or how many are open if there is none."""
        for index in range(len(self._open) - 1, -1, -1):
            other = self._open[index][0]
            if other == name:
                return index
            # An inline element ends within the block that it began in; no element but a table's ends a cell.
            if (other in _BLOCK and name not in _BLOCK) or (other in _TABLE and name not in _TABLE):
                break
        return len(self._open)

    def _close(self, index: int, raw: str, start: int) -> Iterator[MarkupToken]:
        """End the open elements from one on, that one with ``raw``, where that is given."""
        for place in range(len(self._open) - 1, index - 1, -1):
            name, element = self._open.pop()
            yield MarkupToken(TokenKind.END, raw if raw and place == index else f"</{name}>", element, start)


def _closed(lexeme: Lexeme, raw: str) -> str:
    """Return a comment or declaration with the end that it may lack."""
    if not raw.startswith("<!--"):
        return raw if raw.endswith(">") else raw + ">"
    return raw if raw.endswith(("-->", "--!>")) or raw in {"<!-->", "<!--->"} else f"<!--{lexeme.data}-->"
